#include "trainer/cli/open_checkpoint.h"

#include <fmt/format.h>

#include <cstdio>
#include <optional>

#include "parallel/agree.h"
#include "trainer/train/corpus_list.h"
#include "trainer/train/errors.h"

namespace sluice::cli {
namespace {

train::CheckpointInfo find(const std::filesystem::path& path, const parallel::Communicator& world) {
  std::vector<std::string> warnings;
  const auto found = train::find_checkpoint(path, warnings);
  if (world.rank() == 0)
    for (const auto& warning : warnings) fmt::print(stderr, "sluice: warning: {}\n", warning);
  if (!found) throw train::InputError(fmt::format("{}: the run has no checkpoint yet", path.string()));
  return *found;
}

/// What data.corpus of a run takes may be tried here; a corpus may have such a name, too.
void refuse_mixture(const std::filesystem::path& directory) {
  const std::size_t parts = train::parse_corpora(directory.string()).parts.size();
  if (parts < 2 || std::filesystem::exists(directory)) return;
  throw train::InputError(
      fmt::format("{}: is a mixture of {} corpora, of which training alone reads several: name one of them",
                  directory.string(), parts));
}

}  // namespace

train::CheckpointInfo open_checkpoint(const std::filesystem::path& path, parallel::Communicator& world) {
  std::optional<train::CheckpointInfo> info;
  parallel::on_all_ranks(world, [&] {
    if (world.rank() == 0) info = find(path, world);
  });
  const std::string directory = world.broadcast(info ? info->directory.string() : "", 0);
  parallel::on_all_ranks(world, [&] {
    if (!info) info = find(directory, world);
  });
  return *info;
}

dataio::Corpus open_corpus(const std::filesystem::path& directory, parallel::Communicator& world) {
  std::string packed;
  parallel::on_all_ranks(world, [&] {
    if (world.rank() == 0) refuse_mixture(directory);
    if (world.rank() == 0) packed = dataio::Corpus::open(directory).pack();
  });
  return dataio::Corpus::unpack(world.broadcast(packed, 0));
}

void check_generates(const model::ModelOptions& model, const std::string& what) {
  if (model.causal) return;
  throw train::InputError(fmt::format(
      "{}: the model is not causal (model.causal = false, a masked language model): each position sees the "
      "text after it, so there is no next token to go on with",
      what));
}

}  // namespace sluice::cli
