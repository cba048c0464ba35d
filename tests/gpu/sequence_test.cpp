#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstdio>
#include <optional>
#include <string>
#include <vector>

#include "dataio/tokenizer.h"
#include "tests/support/gpu.h"
#include "tests/support/gpu_ranks.h"
#include "tests/support/mpi_world.h"
#include "tests/support/small_model.h"
#include "tests/unit/train/support.h"

// Whole sessions of ranks that share sequences, each on a GPU or with one between them, against one rank's.
namespace sluice::train {
namespace {

using sluice::testing::relative_error;
using tests::mpi_world;

constexpr const char* kModes[] = {"alltoall", "rowshard", "ring"};

struct Trained {
  RecordingSink told;  ///< rank 0 alone
  at::Tensor parameters;
};

/// Rank 0's newest checkpoint: what all ranks' parameters are.
at::Tensor saved_parameters(const RunOptions& options, const parallel::ArenaLayout& layout) {
  std::vector<std::string> warnings;
  const auto allocate = [&] { return layout.allocate(at::kFloat, at::kCPU); };
  StateBuffers state{.parameters = allocate(), .first_moment = allocate(), .second_moment = allocate()};
  load_checkpoint(*find_checkpoint(options.run.dir, warnings), layout, state);
  return in_one_bucket(layout, state.parameters);
}

parallel::ArenaLayout whole_layout(const RunOptions& options, std::int64_t vocabulary) {
  std::vector<parallel::TensorSpec> specs;
  for (const model::ParameterSpec& spec : model::parameter_specs(options.model, vocabulary))
    specs.push_back({spec.name, spec.shape});
  return parallel::ArenaLayout(specs);
}

Trained train(const RunOptions& options, parallel::Communicator& world) {
  Trained run;
  SessionContext context;
  context.texts = {.resolved_ini = "[train]\nsteps = 1\n", .build = "test\n"};
  context.compare = [](const std::string&, std::int64_t) { return ResumeVerdict{}; };
  context.stop_wish = [] { return StopWish::kGoOn; };
  context.sink = &run.told;
  {
    Session session(options, context, world);
    session.run();
  }
  if (world.rank() == 0) {
    const std::int64_t kVocabulary = dataio::make_byte_tokenizer(dataio::MaskToken::kNone)->vocabulary_size();
    run.parameters = saved_parameters(options, whole_layout(options, kVocabulary));
  }
  return run;
}

class GpuSequenceTest : public ::testing::Test {
 protected:
  void SetUp() override {
    SLUICE_NEEDS_GPU();
    static_cast<void>(tests::gpu_world());
    if (mpi_world().rank() == 0) directory_.emplace();
    root_ = mpi_world().broadcast(directory_ ? directory_->path().string() : "", 0);
    if (directory_) make_corpus(root_ + "/corpus");
    alone_ = mpi_world().split(mpi_world().rank());
  }
  void TearDown() override {
    alone_.reset();
    mpi_world().barrier();
  }

  /// A directory of its own for each run.
  [[nodiscard]] RunOptions options(const std::string& precision, std::int64_t positions) {
    RunOptions run = small_run(root_ + "/corpus", fmt::format("{}/run{}", root_, runs_++));
    run.model.seq_len = positions;
    run.model.spatial_init = 1;  // so that no term of the product is negligible
    run.train.device = "cuda";
    run.train.precision = precision;
    run.train.tune = "off";
    run.train.global_batch = 6;
    run.eval.every = 0;
    run.optim.eps = 1e-4;  // or the first steps make much of the last bits of small gradients
    return run;
  }
  [[nodiscard]] Trained alone(const RunOptions& run) {
    Trained result;
    if (mpi_world().rank() == 0) result = train(run, *alone_);
    mpi_world().barrier();
    return result;
  }
  [[nodiscard]] static Trained together(RunOptions run, const std::string& mode) {
    run.parallel.sp = mpi_world().size();
    run.parallel.sp_mode = mode;
    return train(run, mpi_world());
  }

 private:
  std::optional<TemporaryDirectory> directory_;
  std::string root_;
  std::unique_ptr<parallel::Communicator> alone_;
  int runs_ = 0;
};

/// Largest relative differences of losses and norms, and of the parameters at the end. Rank 0 alone.
void expect_near(const Trained& got, const Trained& want, double bound, const std::string& what) {
  if (mpi_world().rank() != 0) return;
  ASSERT_EQ(got.told.losses.size(), want.told.losses.size()) << what;
  double losses = 0;
  for (std::size_t i = 0; i < want.told.losses.size(); ++i)
    losses = std::max(losses, std::abs(got.told.losses[i] - want.told.losses[i]) / want.told.losses[i]);
  const double parameters = relative_error(got.parameters, want.parameters);
  std::printf("%s: losses %.1e, parameters %.1e\n", what.c_str(), losses, parameters);
  EXPECT_LE(losses, bound) << what;
  EXPECT_LE(parameters, bound) << what;
}

TEST_F(GpuSequenceTest, EveryModeTrainsAsOneRankDoes) {
  for (const auto& [precision, bound] :
       {std::pair{"fp32", 1e-5}, std::pair{"tf32", 4e-3}, std::pair{"bf16", 2e-2}}) {
    for (const auto& [positions, causal] : {std::pair{37, true}, std::pair{16, false}}) {
      RunOptions run = options(precision, positions);
      run.model.causal = causal;
      const Trained want = alone(run);
      for (const char* const mode : kModes) {
        RunOptions shared = options(precision, positions);
        shared.model.causal = causal;
        expect_near(together(shared, mode), want, bound,
                    fmt::format("{} n {} {} {}", precision, positions, causal ? "causal" : "full", mode));
      }
    }
  }
}

TEST_F(GpuSequenceTest, GraphsGiveTheSameBits) {
  for (const std::string precision : {"fp32", "bf16"}) {
    for (const char* const mode : kModes) {
      const Trained graph = together(options(precision, 37), mode);
      RunOptions run = options(precision, 37);
      run.train.cuda_graph = "off";
      const Trained plain = together(run, mode);
      EXPECT_EQ(graph.told.losses, plain.told.losses) << precision << " " << mode;
      if (mpi_world().rank() == 0) {
        EXPECT_TRUE(graph.parameters.equal(plain.parameters)) << precision << " " << mode;
      }
    }
  }
}

TEST_F(GpuSequenceTest, RecomputingSlicesAndTuningChangeLittle) {
  RunOptions run = options("bf16", 40);
  run.model.d_model = 32;
  run.model.d_ffn = 64;
  const Trained want = alone(run);
  for (const char* const mode : kModes) {
    for (const char* const recompute : {"gate", "block"}) {
      RunOptions shared = options("bf16", 40);
      shared.model.d_model = 32;
      shared.model.d_ffn = 64;
      shared.train.recompute = recompute;
      shared.train.tune = "on";
      shared.parallel.zero = 1;
      expect_near(together(shared, mode), want, 2e-2, fmt::format("{} recompute {}", mode, recompute));
    }
  }
}

TEST_F(GpuSequenceTest, OtherModelsToo) {
  for (const std::string kind : {"toeplitz", "attention", "transformer"}) {
    const auto model = [&, kind = kind] {
      RunOptions run = options("fp32", 24);
      if (kind == "toeplitz") run.model.spatial = "toeplitz", run.model.spatial_heads = 2;
      if (kind == "attention") run.model.tiny_attention = 4;
      if (kind == "transformer") run.model.kind = "transformer", run.model.heads = 2;
      return run;
    };
    expect_near(together(model(), "auto"), alone(model()), 3e-5, kind);
  }
}

}  // namespace
}  // namespace sluice::train
