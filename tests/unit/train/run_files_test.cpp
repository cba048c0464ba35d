#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/unit/train/support.h"

namespace fs = std::filesystem;

namespace sluice::train {
namespace {

TEST(RunFiles, ARunDirectoryHoldsFewWhateverTheRanksAndSteps) {
  const TemporaryDirectory directory;
  make_corpus(directory.path() / "corpus");
  for (const std::int64_t ranks : {1, 3}) {
    RunOptions run = small_run(directory.path() / "corpus", directory.path() / std::to_string(ranks));
    run_on_ranks(ranks, run);
    std::vector<std::string> names;
    for (const auto& entry : fs::recursive_directory_iterator(run.run.dir))
      if (!entry.is_directory() || entry.is_symlink()) names.push_back(entry.path().filename().string());
    EXPECT_THAT(names, ::testing::UnorderedElementsAre(
                           "latest", "manifest.json", "manifest.json", "manifest.json", "metrics.jsonl",
                           "model.safetensors", "model.safetensors", "model.safetensors", "resolved.ini"));
  }
}

}  // namespace
}  // namespace sluice::train
