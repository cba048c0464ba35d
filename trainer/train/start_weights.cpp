#include "trainer/train/start_weights.h"

#include <fmt/format.h>

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "dataio/tokenizer.h"
#include "trainer/train/errors.h"
#include "trainer/train/manifest.h"
#include "trainer/train/tokenizer_match.h"

namespace sluice::train {
namespace {

/// Settings under which the same parameters are another function.
std::vector<std::string> model_faults(const model::ModelOptions& stored, const model::ModelOptions& wanted) {
  std::vector<std::string> faults;
  const auto ours = function_settings(wanted);
  for (const auto& [key, value] : function_settings(stored)) {
    if (const std::string& own = ours.at(key); own != value)
      faults.push_back(fmt::format("its model has model.{} = {}, the run {}", key, value, own));
  }
  return faults;
}

}  // namespace

void check_same_tokenizer(const CheckpointInfo& checkpoint, const dataio::Corpus& corpus) {
  const auto learned = load_tokenizer(checkpoint);
  NamedTokenizer corpus_side = tokenizer_of(corpus);
  corpus_side.name = "the corpus " + corpus_side.name;
  const auto difference =
      tokenizer_difference(corpus_side, {.name = "the checkpoint " + checkpoint.directory.string(),
                                         .kind = learned->kind(),
                                         .vocabulary_size = learned->vocabulary_size(),
                                         .end_of_document = learned->end_of_document(),
                                         .files = checkpoint.tokenizer});
  if (difference) throw InputError(*difference + ": a model can only read the ids that it learned with");
}

void load_start_weights(const RunOptions& options, const dataio::Corpus& corpus,
                        const parallel::ArenaLayout& layout, const at::Tensor& parameters, TrainSink& sink) {
  const std::string& path = options.train.init_from;
  std::vector<std::string> warnings;
  const std::optional<CheckpointInfo> found = find_checkpoint(path, warnings);
  for (const std::string& warning : warnings) sink.warned(warning);
  if (!found) throw InputError(fmt::format("train.init_from = {}: the run has no good checkpoint", path));
  check_same_tokenizer(*found, corpus);
  std::vector<std::string> faults = model_faults(found->model, options.model);
  for (auto& fault : faults) fault = fmt::format("train.init_from = {}: {}", path, fault);
  if (!faults.empty()) throw InputError(std::move(faults));
  load_checkpoint(*found, layout, {.parameters = parameters, .first_moment = {}, .second_moment = {}});
}

}  // namespace sluice::train
