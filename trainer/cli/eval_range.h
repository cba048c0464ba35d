#pragma once

#include <optional>
#include <vector>

#include "dataio/corpus.h"
#include "parallel/communicator.h"
#include "trainer/cli/arguments.h"
#include "trainer/train/masking.h"
#include "trainer/train/replica.h"

namespace sluice::cli {

/// eval's flags for one given batch.
[[nodiscard]] std::vector<Flag> range_flags();
/// Whether that is what is asked for. Throws train::InputError for flags that need one another, and for more
/// than one rank.
[[nodiscard]] bool asks_for_range(const Arguments& arguments, const parallel::Communicator& world);

struct RangeResult {
  std::int64_t predicted = 0;
  double loss = 0;  ///< nats per predicted token
};
/// Writes what --logits and --gradients ask for, of --tokens. `replica` is one for training where gradients
/// are asked for.
RangeResult evaluate_range(const Arguments& arguments, const train::Replica& replica,
                           dataio::SplitReader& reader, const std::optional<train::Masking>& masking);

}  // namespace sluice::cli
