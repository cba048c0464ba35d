#include <ATen/ops/equal.h>
#include <gtest/gtest.h>
#include <rapidcheck.h>

#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "dataio/loader.h"
#include "parallel/thread_communicator.h"
#include "tests/support/small_model.h"
#include "tests/unit/train/support.h"
#include "trainer/train/data_plan.h"
#include "trainer/train/sequence_ranks.h"
#include "trainer/train/state_gather.h"
#include "trainer/train/step.h"

// Ranks that share sequences compute what one rank computes alone.

namespace sluice::train {
namespace {

using sluice::testing::relative_error;

constexpr std::int64_t kSteps = 5;

StopWish go_on() { return StopWish::kGoOn; }

/// A replica and what feeds it, for one rank.
struct Rig {
  Rig(const RunOptions& options, parallel::Communicator& world, at::ScalarType dtype)
      : corpus(dataio::Corpus::open(options.data.corpus)),
        sequence(options, world),
        slicing(slicing_of(options, world)),
        replica(options.model, corpus.vocabulary_size(), dtype, ReplicaUse::kTraining,
                {.bucket_elements = 300, .world = world.size(), .sequence_ranks = options.parallel.sp},
                recompute_of(options.train), {}, sequence.exchange()),
        loader(std::make_shared<dataio::SplitReader>(corpus.split("train"), corpus.vocabulary_size(),
                                                     dataio::ReaderOptions{}),
               sample_order(options, corpus.split("train")), slicing, {}, 0) {
    replica.initialise(11);
    step = make_train_step(replica, step_plan(options, slicing), sequence.groups(world));
  }

  dataio::Corpus corpus;
  SequenceRanks sequence;
  dataio::Slicing slicing;
  Replica replica;
  dataio::Loader loader;
  std::unique_ptr<TrainStep> step;
};

/// What one run left on rank 0.
struct Trace {
  std::vector<double> losses;
  std::vector<double> norms;
  at::Tensor gradients;   ///< of the first step, in one bucket
  at::Tensor parameters;  ///< after the last
};

/// On rank 0 a logical buffer of what all ranks have, in one bucket.
at::Tensor gathered(const Replica& replica, const at::Tensor& live, parallel::Communicator& world) {
  constexpr std::int64_t kChunk = 100;  // rows are cut anywhere
  const parallel::ArenaLayout& logical = replica.state_layout().logical();
  const at::Tensor whole = logical.allocate(live.scalar_type(), at::kCPU);
  gather_buffer(replica.state_layout(), live, whole, world, kChunk);
  return in_one_bucket(logical, whole);
}

Trace train_on(std::int64_t ranks, const RunOptions& options, at::ScalarType dtype) {
  Trace trace;
  parallel::run_thread_ranks(ranks, [&](parallel::Communicator& world) {
    Rig rig(options, world, dtype);
    Trace own;
    for (std::int64_t step = 0; step < kSteps; ++step) {
      const StepResult result = run_step(*rig.step, step, rig.loader, go_on);
      EXPECT_FALSE(result.skipped);
      own.losses.push_back(result.loss);
      own.norms.push_back(result.grad_norm);
      if (step == 0) own.gradients = gathered(rig.replica, rig.replica.gradients(), world);
    }
    own.parameters = gathered(rig.replica, rig.replica.parameters(), world);
    EXPECT_TRUE(replicas_agree(rig.replica, world)) << "rank " << world.rank();
    if (world.rank() == 0) trace = own;
  });
  return trace;
}

/// `gradients`: under ZeRO-1 a rank has no sums but those of its slices.
enum class Compare { kAll, kWithoutGradients };

void expect_equal(const Trace& found, const Trace& want, double bound, const std::string& what,
                  Compare compare = Compare::kAll) {
  for (std::size_t step = 0; step < want.losses.size(); ++step) {
    EXPECT_NEAR(found.losses[step], want.losses[step], bound * want.losses[step]) << what << " step " << step;
    EXPECT_NEAR(found.norms[step], want.norms[step], bound * want.norms[step]) << what << " step " << step;
  }
  if (compare == Compare::kAll) {
    EXPECT_LT(relative_error(found.gradients, want.gradients), bound) << what;
  }
  EXPECT_LT(relative_error(found.parameters, want.parameters), bound) << what;
}

constexpr const char* kModes[] = {"alltoall", "rowshard", "ring"};

class SequenceStepTest : public ::testing::Test {
 protected:
  SequenceStepTest() { make_corpus(directory_.path()); }

  [[nodiscard]] RunOptions options_of(std::int64_t seq_len) const {
    RunOptions options = small_run(directory_.path(), "unused");
    options.model.seq_len = seq_len;
    options.model.spatial_init = 1;  // so that no term of the product is negligible
    options.train.global_batch = 5;  // neither rows of ranks nor micro-batches divide it
    options.optim.clip = 0.5;
    return options;
  }

  /// Every mode at every shape of the mesh gives what one rank gives.
  static void compare_meshes(RunOptions options, at::ScalarType dtype, double bound, const std::string& what,
                             Compare compare = Compare::kAll) {
    options.parallel.sp = 1;
    const Trace want = train_on(1, options, dtype);
    for (const std::int64_t sp : {1, 2, 3, 4}) {
      for (const std::int64_t dp : {1, 2}) {
        for (const char* const mode : kModes) {
          if (mode == std::string("alltoall") && options.model.spatial_heads > 1) continue;
          options.parallel.sp = sp;
          options.parallel.sp_mode = mode;
          expect_equal(train_on(sp * dp, options, dtype), want, bound,
                       what + " sp " + std::to_string(sp) + " dp " + std::to_string(dp) + " " + mode,
                       compare);
        }
      }
    }
  }

 private:
  TemporaryDirectory directory_;
};

TEST_F(SequenceStepTest, EveryModeGivesTheStepsOfOneRank) {
  for (const std::int64_t seq_len : {8, 37}) {
    for (const bool causal : {true, false}) {
      for (const char* const gate : {"split", "multiplicative"}) {
        RunOptions options = options_of(seq_len);
        options.model.causal = causal;
        options.model.gate = gate;
        compare_meshes(options, at::kDouble, 1e-11,
                       std::string(gate) + (causal ? " causal" : " full") + " n " + std::to_string(seq_len));
      }
    }
  }
}

TEST_F(SequenceStepTest, AlsoInSinglePrecision) {
  RunOptions options = options_of(37);
  options.optim.eps = 1e-4;  // or the first steps make much of the last bits of small gradients
  compare_meshes(options, at::kFloat, 2e-5, "float32");
}

TEST_F(SequenceStepTest, ToeplitzHeadsAndPositions) {
  RunOptions options = options_of(37);
  options.model.spatial = "toeplitz";
  options.model.spatial_heads = 2;
  options.model.positions = "sinusoidal";
  options.model.scale_embedding = true;
  compare_meshes(options, at::kDouble, 1e-11, "toeplitz, 2 heads");
}

TEST_F(SequenceStepTest, TinyAttention) {
  for (const bool causal : {true, false}) {
    RunOptions options = options_of(37);
    options.model.tiny_attention = 4;
    options.model.causal = causal;
    options.train.recompute = causal ? "gate" : "none";
    compare_meshes(options, at::kDouble, 1e-11, "tiny attention");
  }
}

TEST_F(SequenceStepTest, Transformers) {
  for (const char* const positions : {"learned", "sinusoidal", "rotary", "relative", "learned+relative"}) {
    for (const bool causal : {true, false}) {
      RunOptions options = options_of(37);
      options.model.kind = "transformer";
      options.model.heads = 4;
      options.model.positions = positions;
      options.model.causal = causal;
      if (positions == std::string("relative") && causal) options.model.attention = "positions_only";
      options.train.recompute = causal ? "block" : "none";
      const Trace want = train_on(1, options, at::kDouble);
      for (const std::int64_t sp : {2, 3, 4}) {
        options.parallel.sp = sp;
        for (const char* const mode : {"alltoall", "rowshard"}) {  // by heads where the ranks divide them
          options.parallel.sp_mode = mode;
          expect_equal(train_on(2 * sp, options, at::kDouble), want, 1e-11,
                       positions + std::string(" ") + mode + " sp " + std::to_string(sp));
        }
        options.parallel.sp = 1;
      }
    }
  }
}

TEST_F(SequenceStepTest, RecomputationAndSkippedBlocks) {
  for (const char* const recompute : {"gate", "block"}) {
    RunOptions options = options_of(37);
    options.train.recompute = recompute;
    options.model.stochastic_depth = 0.5;
    compare_meshes(options, at::kDouble, 1e-11, recompute);
  }
}

TEST_F(SequenceStepTest, SlicedOptimizerStateOverAllRanks) {
  for (const bool causal : {true, false}) {
    RunOptions options = options_of(37);
    options.model.causal = causal;
    options.parallel.zero = 1;
    compare_meshes(options, at::kDouble, 1e-11, "zero", Compare::kWithoutGradients);
  }
}

/// The gradients' norm is that of the same numbers, whoever has them.
TEST_F(SequenceStepTest, SlicesChangeNoBit) {
  for (const char* const mode : kModes) {
    RunOptions options = options_of(37);
    options.parallel.sp = 2;
    options.parallel.sp_mode = mode;
    const Trace want = train_on(4, options, at::kFloat);
    options.parallel.zero = 1;
    const Trace found = train_on(4, options, at::kFloat);
    EXPECT_EQ(found.norms, want.norms) << mode;
    EXPECT_TRUE(at::equal(found.parameters, want.parameters)) << mode;
  }
}

TEST_F(SequenceStepTest, ANanOnOneRankSkipsTheStepOnAll) {
  RunOptions options = options_of(37);
  options.parallel.sp = 2;
  options.parallel.sp_mode = "ring";
  parallel::run_thread_ranks(4, [&](parallel::Communicator& world) {
    Rig rig(options, world, at::kDouble);
    const at::Tensor before = rig.replica.parameters().clone();
    if (world.rank() == 3)
      rig.replica.layout().view(rig.replica.parameters(), 1).fill_(std::numeric_limits<double>::quiet_NaN());
    EXPECT_TRUE(run_step(*rig.step, 0, rig.loader, go_on).skipped) << "rank " << world.rank();
    rig.replica.parameters().copy_(before);
    EXPECT_FALSE(run_step(*rig.step, 1, rig.loader, go_on).skipped) << "and the run goes on";
  });
}

TEST_F(SequenceStepTest, RandomShapes) {
  const bool holds = rc::check("any mesh and shape", [this] {
    const auto sp = *rc::gen::inRange<std::int64_t>(2, 6);
    const auto dp = *rc::gen::inRange<std::int64_t>(1, 3);
    RunOptions options = options_of(*rc::gen::inRange<std::int64_t>(sp, 60));
    options.model.causal = *rc::gen::arbitrary<bool>();
    options.model.d_ffn = 2 * *rc::gen::inRange<std::int64_t>(1, 12);
    options.model.layers = *rc::gen::inRange<std::int64_t>(1, 3);
    options.train.micro_batch = *rc::gen::inRange<std::int64_t>(1, 6);
    const Trace want = train_on(1, options, at::kDouble);
    options.parallel.sp = sp;
    options.parallel.sp_mode =
        *rc::gen::elementOf(std::vector<std::string>(std::begin(kModes), std::end(kModes)));
    const Trace found = train_on(sp * dp, options, at::kDouble);
    for (std::size_t step = 0; step < want.losses.size(); ++step)
      RC_ASSERT(std::abs(found.losses[step] - want.losses[step]) < 1e-9);
    RC_ASSERT(relative_error(found.gradients, want.gradients) < 1e-9);
    RC_ASSERT(relative_error(found.parameters, want.parameters) < 1e-9);
  });
  EXPECT_TRUE(holds);
}

}  // namespace
}  // namespace sluice::train
