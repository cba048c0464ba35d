#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <string>
#include <vector>

#include "parallel/thread_communicator.h"
#include "tests/support/small_model.h"
#include "tests/unit/train/support.h"
#include "trainer/train/errors.h"

// Whole runs of ranks that share sequences.

namespace sluice::train {
namespace {

namespace fs = std::filesystem;
using sluice::testing::relative_error;

class SequenceSessionTest : public ::testing::Test {
 protected:
  SequenceSessionTest() { make_corpus(directory_.path() / "corpus"); }

  [[nodiscard]] RunOptions options_of(const std::string& run) const {
    RunOptions options = small_run(directory_.path() / "corpus", directory_.path() / run);
    options.model.seq_len = 19;
    options.model.spatial_init = 1;
    options.train.precision = "fp64";
    options.optim.schedule = "constant";
    return options;
  }
  [[nodiscard]] const fs::path& directory() const { return directory_.path(); }

  static void expect_same_run(const RanksResult& found, const RanksResult& want, const std::string& what) {
    EXPECT_TRUE(found.replicas_equal) << what;
    EXPECT_LE(relative_error(found.parameters, want.parameters), 1e-10) << what;
    EXPECT_LE(relative_error(found.second_moment, want.second_moment), 1e-9) << what;
    ASSERT_EQ(found.told.valid.size(), want.told.valid.size()) << what;
    for (std::size_t i = 0; i < want.told.valid.size(); ++i)
      EXPECT_NEAR(found.told.valid[i].loss, want.told.valid[i].loss, 1e-9) << what;
  }

 private:
  TemporaryDirectory directory_;
};

TEST_F(SequenceSessionTest, ARunIsTheSameOnAnyMesh) {
  const RanksResult want = run_on_ranks(1, options_of("alone"));
  struct Mesh {
    std::int64_t sp;
    std::int64_t dp;
    std::int64_t zero;
    const char* mode;
  };
  for (const Mesh& mesh : {Mesh{2, 1, 0, "auto"}, {2, 2, 1, "ring"}, {3, 1, 1, "rowshard"}}) {
    const std::string name = mesh.mode + std::to_string(mesh.sp);
    RunOptions options = options_of(name);
    options.parallel.sp = mesh.sp;
    options.parallel.zero = mesh.zero;
    options.parallel.sp_mode = mesh.mode;
    const RanksResult found = run_on_ranks(mesh.sp * mesh.dp, options);
    expect_same_run(found, want, name);
    ASSERT_EQ(found.told.losses.size(), want.told.losses.size());
    for (std::size_t step = 0; step < want.told.losses.size(); ++step)
      EXPECT_NEAR(found.told.losses[step], want.told.losses[step], 1e-10) << name << " step " << step;
  }
}

TEST_F(SequenceSessionTest, MaskedModelsToo) {
  make_corpus(directory() / "masked", dataio::MaskToken::kAdd);
  const auto masked = [&](const std::string& run) {
    RunOptions options = options_of(run);
    options.data.corpus = (directory() / "masked").string();
    options.train.objective = "mlm";
    options.model.causal = false;
    return options;
  };
  const RanksResult want = run_on_ranks(1, masked("masked1"));
  for (const char* const mode : {"alltoall", "rowshard", "ring"}) {
    RunOptions options = masked(std::string("masked-") + mode);
    options.parallel.sp = 2;
    options.parallel.sp_mode = mode;
    expect_same_run(run_on_ranks(2, options), want, mode);
  }
}

TEST_F(SequenceSessionTest, ACheckpointGoesOnAtAnyOtherMesh) {
  struct Mesh {
    std::int64_t sp;
    std::int64_t ranks;
    const char* mode;
    std::int64_t zero;
  };
  const auto on = [](RunOptions options, const Mesh& mesh) {
    options.parallel.sp = mesh.sp;
    options.parallel.sp_mode = mesh.mode;
    options.parallel.zero = mesh.zero;
    return options;
  };
  const RanksResult want = run_on_ranks(1, options_of("straight"));
  const std::vector<Mesh> meshes = {{1, 1, "auto", 0},     {1, 2, "auto", 1}, {2, 4, "alltoall", 1},
                                    {2, 4, "rowshard", 1}, {2, 2, "ring", 0}, {4, 4, "rowshard", 0},
                                    {4, 8, "ring", 1},     {3, 3, "ring", 1}};
  for (const Mesh& first : meshes) {
    const std::string name = std::string(first.mode) + std::to_string(first.sp) + std::to_string(first.ranks);
    RunOptions half = on(options_of(name), first);
    half.train.steps = 10;
    run_on_ranks(first.ranks, half);
    for (const Mesh& second : meshes) {
      const std::string to =
          name + "-" + second.mode + std::to_string(second.sp) + std::to_string(second.ranks);
      fs::copy(half.run.dir, directory() / to, fs::copy_options::recursive | fs::copy_options::copy_symlinks);
      const RanksResult found = run_on_ranks(second.ranks, on(options_of(to), second));
      EXPECT_LE(relative_error(found.parameters, want.parameters), 1e-10) << to;
      ASSERT_EQ(found.told.losses.size(), 10U);
      for (std::size_t step = 0; step < 10; ++step)
        EXPECT_NEAR(found.told.losses[step], want.told.losses[step + 10], 1e-10) << to << " step " << step;
    }
  }
}

TEST_F(SequenceSessionTest, RefusesRanksThatDoNotFit) {
  RunOptions options = options_of("refused");
  options.parallel.sp = 2;
  EXPECT_THROW(run_on_ranks(3, options), InputError);
  options.parallel.sp = 1;
  options.train.global_batch = 1;
  options.train.micro_batch = 1;
  EXPECT_THROW(run_on_ranks(2, options), InputError);
  options.parallel.sp = 2;  // now both ranks take the one sample
  EXPECT_EQ(run_on_ranks(2, options).outcome, TrainOutcome::kDone);
}

}  // namespace
}  // namespace sluice::train
