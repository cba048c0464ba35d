#pragma once

#include <ATen/core/Tensor.h>

#include "dataio/corpus.h"
#include "parallel/arena.h"
#include "trainer/train/checkpoint.h"
#include "trainer/train/options.h"
#include "trainer/train/sink.h"

// A run that starts from the weights of another, or of an imported model (train.init_from).

namespace sluice::train {

/// Throws InputError naming both where the corpus was written with another tokenizer than the model learned
/// with.
void check_same_tokenizer(const CheckpointInfo& checkpoint, const dataio::Corpus& corpus);

/// Copies the weights of the checkpoint that train.init_from names into `parameters`, a flat buffer. Bad
/// checkpoints that were passed over are told to `sink`. Throws InputError where there is none, its model is
/// not the run's (settings of initial values and of dropout may differ) or its tokenizer not the corpus's.
void load_start_weights(const RunOptions& options, const dataio::Corpus& corpus,
                        const parallel::ArenaLayout& layout, const at::Tensor& parameters, TrainSink& sink);

}  // namespace sluice::train
