#include <ATen/ops/equal.h>
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cstdio>
#include <cstdlib>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "dataio/tokenizer.h"
#include "parallel/device_memory.h"
#include "tests/support/gpu.h"
#include "tests/support/gpu_ranks.h"
#include "tests/support/mpi_world.h"
#include "tests/unit/dataio/corpus_fixture.h"
#include "tests/unit/train/support.h"
#include "trainer/kernels/device_update.h"

// Whole sessions on ranks with a GPU each, or with one between them: ZeRO-1 in bfloat16, where a rank holds
// its slices of the exact parameters alone.
namespace sluice::train {
namespace {

using tests::mpi_world;

// cuBLAS keeps a workspace for each stream that it met, and which streams sessions get is chance: small ones.
const int workspaces = setenv("CUBLAS_WORKSPACE_CONFIG", ":16:8", /*overwrite=*/1);

/// What a run told rank 0 and left on disk, and the memory that it held on this rank when it was done.
struct Trained {
  RecordingSink told;
  TrainOutcome outcome = TrainOutcome::kDone;
  StateBuffers state;  ///< rank 0 alone
  std::int64_t allocated_bytes = 0;
  std::int64_t parameters = 0;
};

StateBuffers load_latest(const RunOptions& options, const parallel::ArenaLayout& layout) {
  std::vector<std::string> warnings;
  const auto allocate = [&] { return layout.allocate(at::kFloat, at::kCPU); };
  StateBuffers state{.parameters = allocate(), .first_moment = allocate(), .second_moment = allocate()};
  load_checkpoint(*find_checkpoint(options.run.dir, warnings), layout, state);
  return {.parameters = in_one_bucket(layout, state.parameters),
          .first_moment = in_one_bucket(layout, state.first_moment),
          .second_moment = in_one_bucket(layout, state.second_moment)};
}

std::int64_t allocated_now() {
  const at::Device device = tests::gpu_of_rank();
  parallel::reset_peak_memory(device);
  return parallel::peak_memory(device).allocated_peak;
}

Trained train(const RunOptions& options, std::int64_t stop_in_step = -1) {
  Trained run;
  // What earlier sessions left is none of this one's.
  const std::int64_t before = allocated_now();
  std::int64_t step = 0;
  SessionContext context;
  context.texts = {.resolved_ini = "[train]\nsteps = 1\n", .build = "test\n"};
  context.compare = [](const std::string&, std::int64_t) { return ResumeVerdict{}; };
  context.stop_wish = [&] { return ++step == stop_in_step ? StopWish::kStop : StopWish::kGoOn; };
  context.sink = &run.told;
  Session session(options, context, mpi_world());
  step = session.state().step;
  run.outcome = session.run();
  run.allocated_bytes = allocated_now() - before;
  run.parameters = session.replica().parameter_count();
  if (mpi_world().rank() == 0) run.state = load_latest(options, session.replica().layout());
  return run;
}

class ZeroTest : public testing::Test {
 protected:
  void SetUp() override {
    SLUICE_NEEDS_GPU();
    if (mpi_world().rank() == 0) directory_.emplace();
    root_ = mpi_world().broadcast(directory_ ? directory_->path().string() : "", 0);
    if (directory_) make_corpus(root_ + "/corpus");
    mpi_world().barrier();
  }
  void TearDown() override { mpi_world().barrier(); }

  /// 20 steps in bfloat16; each call names a run of its own.
  [[nodiscard]] RunOptions options(std::int64_t zero) {
    RunOptions run = small_run(root_ + "/corpus", fmt::format("{}/run{}", root_, runs_++));
    run.train.device = "cuda";
    run.train.precision = "bf16";
    run.parallel.zero = zero;
    return run;
  }
  [[nodiscard]] const std::string& root() const { return root_; }

 private:
  std::optional<TemporaryDirectory> directory_;
  std::string root_;
  int runs_ = 0;
};

void expect_same_state(const Trained& got, const Trained& want) {
  if (mpi_world().rank() != 0) return;
  EXPECT_TRUE(at::equal(got.state.parameters, want.state.parameters));
  EXPECT_TRUE(at::equal(got.state.first_moment, want.state.first_moment));
  EXPECT_TRUE(at::equal(got.state.second_moment, want.state.second_moment));
}

TEST_F(ZeroTest, SlicesOfTheParametersGiveTheBitsOfAllOfThem) {
  for (const auto& [precision, graph] : {std::pair{"bf16", "on"}, {"bf16", "off"}, {"fp32", "on"}}) {
    SCOPED_TRACE(fmt::format("{}, train.cuda_graph {}", precision, graph));
    RunOptions with = options(1);
    RunOptions without = options(0);
    with.train.cuda_graph = without.train.cuda_graph = graph;
    with.train.precision = without.train.precision = precision;
    const Trained sliced = train(with);
    const Trained whole = train(without);
    expect_same_state(sliced, whole);
    EXPECT_EQ(sliced.told.losses, whole.told.losses);
    ASSERT_EQ(sliced.told.valid.size(), whole.told.valid.size());
    for (std::size_t i = 0; i < whole.told.valid.size(); ++i)
      EXPECT_EQ(sliced.told.valid[i].loss, whole.told.valid[i].loss);
  }
}

/// Sums in rank order and copies: which way they take is no question of bits.
TEST_F(ZeroTest, ThroughTheHostsMemoryComesWhatComesOverTheLinks) {
  for (const char* const wire : {"fp32", "bf16"}) {
    for (const std::int64_t zero : {1, 0}) {
      SCOPED_TRACE(fmt::format("train.reduce_dtype {}, parallel.zero {}", wire, zero));
      RunOptions over_links = options(zero);
      RunOptions through_host = options(zero);
      over_links.train.reduce_dtype = through_host.train.reduce_dtype = wire;
      through_host.parallel.exchange = "host_memory";
      const Trained want = train(over_links);
      const Trained got = train(through_host);
      expect_same_state(got, want);
      EXPECT_EQ(got.told.losses, want.told.losses);
    }
  }
}

/// Of a W whose gradient is written over rather than cleared, with rows that end within a block of an update:
/// what ranks write to one another's gradients may stand above its diagonal, but for those blocks.
TEST_F(ZeroTest, ALargeSpatialWeightHasTheBitsOfPlainRanks) {
  const std::string corpus = root() + "/long";
  if (mpi_world().rank() == 0) {
    std::filesystem::create_directories(corpus);
    const auto tokenizer = dataio::make_byte_tokenizer();
    dataio::testing::write_corpus(corpus, {{"train", {9000, 7000}}, {"valid", {3100}}},
                                  tokenizer->vocabulary_size());
    tokenizer->save(corpus);
  }
  mpi_world().barrier();
  const auto trained = [&](std::int64_t zero) {
    RunOptions run = options(zero);
    run.data.corpus = corpus;
    run.model.seq_len = 740;
    run.model.d_model = 64;
    run.model.d_ffn = 128;
    run.train.steps = 6;
    return train(run);
  };
  static_assert(740 * 740 >= Replica::kLargeMatrix && 740 % kernels::kDecayBlock != 0);
  const Trained sliced = trained(1);
  const Trained whole = trained(0);
  expect_same_state(sliced, whole);
  EXPECT_EQ(sliced.told.losses, whole.told.losses);
}

TEST_F(ZeroTest, ARunThatWasStoppedGoesOnWithTheSameBits) {
  const Trained straight = train(options(1));
  for (const std::int64_t stop : {6, 10}) {  // between evaluations, and where one is due after resuming
    RunOptions run = options(1);
    EXPECT_EQ(train(run, stop).outcome, TrainOutcome::kStoppedEarly);
    run.parallel.zero = stop == 6 ? 1 : 0;
    SCOPED_TRACE(fmt::format("stopped in step {}, resumed with parallel.zero = {}", stop, run.parallel.zero));
    const Trained resumed = train(run);
    EXPECT_EQ(resumed.outcome, TrainOutcome::kDone);
    expect_same_state(resumed, straight);
  }
}

TEST_F(ZeroTest, ARankHoldsItsShareOfParametersAndMomentsAlone) {
  const auto allocated = [&](std::int64_t zero) {
    RunOptions run = options(zero);
    run.model.layers = 16;  // so that room for the first buckets (PushedReduction) is a small part
    run.model.d_model = 512;
    run.model.d_ffn = 4096;
    run.parallel.bucket_mb = 4;
    run.train.steps = 3;
    run.eval.every = 0;
    return train(run);
  };
  const Trained whole = allocated(0);
  const Trained sliced = allocated(1);
  const auto ranks = static_cast<double>(mpi_world().size());
  const double saved = static_cast<double>(whole.allocated_bytes - sliced.allocated_bytes) /
                       static_cast<double>(whole.parameters);
  std::printf(
      "rank %d: %.1f MB with all parameters and moments, %.1f MB with its own: %.2f bytes a parameter\n",
      static_cast<int>(mpi_world().rank()), 1e-6 * static_cast<double>(whole.allocated_bytes),
      1e-6 * static_cast<double>(sliced.allocated_bytes), saved);
  constexpr double kBytes = 12;  // parameter and two moments in float32
  // Less room for the first buckets, and a workspace of products (33 MB) where a session met a new stream.
  EXPECT_GE(saved, 0.85 * kBytes * (1 - 1 / ranks));
}

}  // namespace
}  // namespace sluice::train
