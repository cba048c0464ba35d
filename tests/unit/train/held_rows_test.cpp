#include <ATen/ops/arange.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>
#include <gtest/gtest.h>

#include <mutex>
#include <string>
#include <vector>

#include "parallel/thread_communicator.h"
#include "tests/unit/train/support.h"
#include "trainer/kernels/device_update.h"
#include "trainer/kernels/sharded_attention.h"
#include "trainer/train/sequence_ranks.h"
#include "trainer/train/state_gather.h"
#include "trainer/train/step.h"
#include "trainer/train/update_slices.h"

// What a rank holds that has the rows of W of its positions alone.

namespace sluice::train {
namespace {

constexpr std::int64_t kVocabulary = 257;
constexpr std::int64_t kPositions = 100;

Placement rounding() {
  Placement placement(at::kFloat);
  placement.compute = at::kBFloat16;
  return placement;
}

RunOptions options_of(const char* mode, std::int64_t sp) {
  RunOptions options = small_run("", "x");
  options.model.seq_len = kPositions;
  options.parallel.sp = sp;
  options.parallel.sp_mode = mode;
  return options;
}

parallel::BucketPlan plan_of(const RunOptions& options, const parallel::Communicator& world) {
  return {.bucket_elements = 3000, .world = world.size(), .sequence_ranks = options.parallel.sp};
}

Replica make_replica(const RunOptions& options, const parallel::Communicator& world,
                     const SequenceRanks& sequence, const Placement& placement = at::kFloat,
                     std::optional<std::int64_t> owner = {}) {
  return {options.model,
          kVocabulary,
          placement,
          ReplicaUse::kTraining,
          plan_of(options, world),
          model::Recompute::kNone,
          owner,
          sequence.exchange()};
}

bool is_weight(const std::string& name) { return name.find("sgu.weight") != std::string::npos; }

std::int64_t weight_elements(const Replica& replica) {
  std::int64_t elements = 0;
  for (const auto& entry : replica.layout().entries()) elements += is_weight(entry.name) ? entry.numel : 0;
  return elements;
}

/// Elements that all of a rank's buffers take: parameters, what is computed with, gradients and moments.
std::int64_t state_bytes(const Replica& replica, const optim::AdamW& optimizer) {
  std::size_t bytes = 0;
  for (const at::Tensor& buffer : {replica.parameters(), replica.rounded(), replica.gradients(),
                                   optimizer.first_moment(), optimizer.second_moment()})
    if (buffer.defined()) bytes += buffer.nbytes();
  return static_cast<std::int64_t>(bytes);
}

TEST(HeldRows, OfAllRanksAreTheWholeAndEachHasItsShare) {
  for (const char* const mode : {"rowshard", "ring"}) {
    for (const std::int64_t sp : {2, 3, 4}) {
      const RunOptions options = options_of(mode, sp);
      const std::int64_t whole = options.model.layers * kPositions * kPositions;
      const std::int64_t tile = options.model.layers * kernels::sequence_tile(kPositions, sp) * kPositions;
      std::mutex mutex;
      std::int64_t held = 0;
      parallel::run_thread_ranks(sp, [&](parallel::Communicator& world) {
        const SequenceRanks sequence(options, world);
        const Replica replica = make_replica(options, world, sequence);
        EXPECT_LE(weight_elements(replica), whole / sp + tile) << mode << " sp " << sp;
        EXPECT_EQ(replica.parameter_count(),
                  Replica(options.model, kVocabulary, at::kFloat, ReplicaUse::kInference).parameter_count());
        const std::lock_guard lock(mutex);
        held += weight_elements(replica);
      });
      EXPECT_EQ(held, whole) << mode << " sp " << sp;
    }
  }
}

TEST(HeldRows, AllToAllAndToeplitzKeepTheirWeightsWhole) {
  parallel::run_thread_ranks(2, [&](parallel::Communicator& world) {
    RunOptions options = options_of("alltoall", 2);
    const SequenceRanks dealing_channels(options, world);
    EXPECT_TRUE(make_replica(options, world, dealing_channels).state_layout().is_logical());
    options.parallel.sp_mode = "ring";
    options.model.spatial = "toeplitz";
    const SequenceRanks ring(options, world);
    EXPECT_TRUE(make_replica(options, world, ring).state_layout().is_logical());
  });
}

/// Beside W's parts a rank has what it would have alone, and paddings: of the parts up to a tile and to a
/// multiple of the slices.
TEST(HeldRows, BuffersOfARankShrinkWithItsShare) {
  for (const std::int64_t zero : {0, 1}) {
    for (const std::int64_t sp : {1, 2, 4}) {
      RunOptions options = options_of("rowshard", sp);
      options.parallel.zero = zero;
      options.model.seq_len = 512;
      parallel::run_thread_ranks(sp, [&](parallel::Communicator& world) {
        const SequenceRanks sequence(options, world);
        const auto owner = parameter_owner(sharding_of(options), rounding(), world.rank());
        const Replica replica = make_replica(options, world, sequence, rounding(), owner);
        const optim::AdamW optimizer(options.optim, replica.parameters(), replica.decayed_ranges(),
                                     owned_ranges(replica.layout(), sharding_of(options), world.rank()));
        constexpr std::int64_t kWeightBytes = 4 + 2 + 4 + 4 + 4;  // all there is of a rank's own rows
        const std::int64_t weights = weight_elements(replica) * kWeightBytes;
        const std::int64_t others = (replica.parameter_count() - options.model.layers * 512 * 512);
        const std::int64_t padding = std::ssize(replica.layout().buckets()) * sp * 1024;
        EXPECT_EQ(weight_elements(replica), options.model.layers * 512 * 512 / sp);
        EXPECT_GE(state_bytes(replica, optimizer), weights);
        EXPECT_LE(state_bytes(replica, optimizer), weights + (others + padding) * kWeightBytes);
      });
    }
  }
}

TEST(HeldRows, AreDrawnAsTheRowsOfTheWhole) {
  for (const std::int64_t heads : {1, 2}) {
    RunOptions options = options_of("ring", 3);
    options.model.spatial_heads = heads;
    Replica whole(options.model, kVocabulary, at::kFloat, ReplicaUse::kTraining);
    whole.initialise(5);
    parallel::run_thread_ranks(3, [&](parallel::Communicator& world) {
      const SequenceRanks sequence(options, world);
      Replica replica = make_replica(options, world, sequence);
      replica.initialise(5);
      const at::Tensor held = kernels::held_positions(*sequence.exchange(), at::kCPU);
      for (std::int64_t i = 0; i < std::ssize(whole.layout().entries()); ++i) {
        const at::Tensor all = whole.layout().view(whole.parameters(), i);
        const bool dealt = is_weight(whole.layout().entries()[static_cast<std::size_t>(i)].name);
        const at::Tensor want = dealt ? all.index_select(-2, held) : all;
        EXPECT_TRUE(at::equal(replica.layout().view(replica.parameters(), i), want)) << "entry " << i;
      }
    });
  }
}

/// Marks, in a logical buffer, the elements of `ranges` of a rank's arena.
at::Tensor marked(const Replica& replica, std::int64_t place, const std::vector<optim::Range>& ranges) {
  const StateLayout& layout = replica.state_layout();
  const at::Tensor arena = layout.held().allocate(at::kInt, at::kCPU);
  for (const optim::Range& range : ranges) arena.narrow(0, range.begin, range.numel()).add_(1);
  const at::Tensor logical = layout.logical().allocate(at::kInt, at::kCPU);
  for (const Segment& segment : layout.segments(place))
    logical.narrow(0, segment.logical, segment.numel).copy_(arena.narrow(0, segment.held, segment.numel));
  return in_one_bucket(layout.logical(), logical);
}

TEST(HeldRows, TheSameElementsStayAndDecayAsOnOneRank) {
  for (const std::int64_t positions : {64, 100}) {
    for (const std::int64_t heads : {1, 2}) {
      RunOptions options = options_of("rowshard", 3);
      options.model.seq_len = positions;
      options.model.spatial_heads = heads;
      const Replica alone(options.model, kVocabulary, at::kFloat, ReplicaUse::kTraining);
      const at::Tensor idle = marked(alone, 0, alone.idle_ranges());
      const at::Tensor decayed = marked(alone, 0, alone.decayed_ranges());
      ASSERT_GT(idle.sum().item<std::int64_t>(), 0);
      std::mutex mutex;
      at::Tensor idle_here = at::zeros_like(idle);
      parallel::run_thread_ranks(3, [&](parallel::Communicator& world) {
        const SequenceRanks sequence(options, world);
        const Replica replica = make_replica(options, world, sequence);
        EXPECT_TRUE(at::equal(marked(replica, world.rank(), replica.decayed_ranges()).minimum(decayed),
                              marked(replica, world.rank(), replica.decayed_ranges())))
            << "nothing else decays";
        const std::lock_guard lock(mutex);
        idle_here.add_(marked(replica, world.rank(), replica.idle_ranges()));
      });
      EXPECT_TRUE(at::equal(idle_here, idle)) << positions << " positions, " << heads << " heads";
    }
  }
}

/// On a GPU a block of the arena is updated in one way: what is read must not be left as it is.
TEST(HeldRows, NoBlockThatIsReadIsLeftOut) {
  const RunOptions options = options_of("rowshard", 3);
  parallel::run_thread_ranks(3, [&](parallel::Communicator& world) {
    const SequenceRanks sequence(options, world);
    const Replica replica = make_replica(options, world, sequence);
    const optim::AdamW optimizer(options.optim, replica.parameters(), replica.decayed_ranges());
    const at::Tensor blocks =
        slices_to_update(replica, optimizer, block_updates(replica), {0, replica.layout().size()})
            .front()
            .blocks;
    const at::Tensor left =
        blocks.eq(static_cast<int>(kernels::BlockUpdate::kNone)).repeat_interleave(kernels::kDecayBlock);
    const auto held = sequence.exchange()->rows().held(world.rank());
    for (const auto& entry : replica.layout().entries()) {
      if (!is_weight(entry.name)) continue;
      const at::Tensor rows_tn = left.narrow(0, entry.offset, entry.numel).view({-1, kPositions});
      for (std::int64_t row = 0; row < rows_tn.size(0); ++row) {
        const std::int64_t read = held[static_cast<std::size_t>(row)] + 1;
        EXPECT_FALSE(rows_tn.select(0, row).narrow(0, 0, read).any().item<bool>()) << "row " << row;
      }
    }
  });
}

TEST(HeldRows, AStateGoesToItsRanksAndComesTogetherAgain) {
  for (const std::int64_t zero : {0, 1}) {
    RunOptions options = options_of("ring", 3);
    options.model.spatial_heads = 2;
    options.parallel.zero = zero;
    parallel::run_thread_ranks(6, [&](parallel::Communicator& world) {
      const SequenceRanks sequence(options, world);
      const Replica replica = make_replica(options, world, sequence);
      const StateLayout& layout = replica.state_layout();
      const optim::AdamW optimizer(options.optim, replica.parameters(), {},
                                   owned_ranges(layout.held(), sharding_of(options), world.rank()));
      const at::Tensor truth = layout.logical().allocate(at::kFloat, at::kCPU);
      for (std::int64_t i = 0; i < std::ssize(layout.logical().entries()); ++i) {
        const at::Tensor value = layout.logical().view(truth, i);
        value.copy_(at::arange(value.numel()).view(value.sizes()).add(i));
      }
      for (const at::Tensor& live : {replica.parameters(), optimizer.first_moment()}) {
        at::Tensor whole;
        if (world.rank() == 0) {
          whole = whole_buffer(layout, live);
          EXPECT_EQ(whole.numel(), layout.logical().size());
          whole.copy_(truth);
        }
        constexpr std::int64_t kChunk = 999;
        share_buffer(layout, whole, live, world, kChunk);
        const at::Tensor host = layout.logical().allocate(at::kFloat, at::kCPU);
        gather_buffer(layout, live, host, world, kChunk);
        if (world.rank() == 0) {
          EXPECT_TRUE(at::equal(host, truth)) << "zero " << zero << ", " << live.numel();
        }
      }
      EXPECT_TRUE(replicas_agree(replica, world));
    });
  }
}

TEST(HeldRows, WholeSequencesAreRefused) {
  parallel::run_thread_ranks(2, [](parallel::Communicator& world) {
    const RunOptions options = options_of("ring", 2);
    const SequenceRanks sequence(options, world);
    const Replica replica = make_replica(options, world, sequence);
    const at::Tensor tokens = at::zeros({1, 8}, at::kLong);
    EXPECT_THROW((void)replica.model().logits(tokens), c10::Error);
    EXPECT_THROW((void)replica.model().loss_sum(tokens, tokens), c10::Error);
    const auto cache = replica.model().make_cache();
    EXPECT_THROW((void)replica.model().prefill(tokens.squeeze(0), *cache), c10::Error);
  });
}

}  // namespace
}  // namespace sluice::train
