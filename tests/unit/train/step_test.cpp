#include "trainer/train/step.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/equal.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "dataio/loader.h"
#include "parallel/thread_communicator.h"
#include "tests/unit/train/support.h"
#include "trainer/train/errors.h"

namespace sluice::train {
namespace {

constexpr std::int64_t kGlobalBatch = 5;  // does not divide by ranks or micro-batches: padding everywhere
constexpr std::uint64_t kSeed = 3;

/// A replica and what feeds it, for one rank.
struct Rig {
  Rig(const std::filesystem::path& corpus_directory, parallel::Communicator& world,
      at::ScalarType dtype = at::kDouble, Sharding sharding = Sharding::kNone)
      : corpus(dataio::Corpus::open(corpus_directory)),
        options(small_run(corpus_directory, "unused")),
        order({.split_tokens = corpus.split("train").tokens, .seq_len = options.model.seq_len, .mode = {}},
              kSeed),
        slicing{
            .global_batch = kGlobalBatch, .micro_batch = 2, .world_size = world.size(), .rank = world.rank()},
        replica(options.model, corpus.vocabulary_size(), dtype, ReplicaUse::kTraining,
                {.bucket_elements = 300, .world = world.size()}),
        step(make_train_step(
            replica, {.slicing = slicing, .optim = options.optim, .total_steps = 10, .sharding = sharding},
            world)),
        reader(std::make_shared<dataio::SplitReader>(corpus.split("train"), corpus.vocabulary_size(),
                                                     dataio::ReaderOptions{})),
        loader(reader, order, slicing, {}, 0) {
    replica.initialise(11);
  }

  /// Mean loss of global batch 0, from the logits, by plain loops.
  [[nodiscard]] double plain_loss() const {
    const at::NoGradGuard no_grad;
    double sum = 0;
    for (std::int64_t sample = 0; sample < kGlobalBatch; ++sample) {
      const dataio::Window window = order.window(sample);
      std::vector<std::int32_t> ids(static_cast<std::size_t>(window.end - window.begin));
      reader->read(window.begin, ids);
      const auto length = static_cast<std::int64_t>(ids.size()) - 1;
      at::Tensor tokens = at::empty({1, length}, at::kLong);
      std::copy(ids.begin(), ids.end() - 1, tokens.mutable_data_ptr<std::int64_t>());
      const at::Tensor logits = replica.model().logits(tokens).contiguous();
      const auto* row = logits.const_data_ptr<double>();
      for (std::int64_t t = 0; t < length; ++t, row += corpus.vocabulary_size()) {
        double total = 0;
        for (std::int64_t v = 0; v < corpus.vocabulary_size(); ++v) total += std::exp(row[v]);
        sum += std::log(total) - row[ids[static_cast<std::size_t>(t + 1)]];
      }
    }
    return sum / static_cast<double>(kGlobalBatch * options.model.seq_len);
  }

  dataio::Corpus corpus;
  RunOptions options;
  dataio::Order order;
  dataio::Slicing slicing;
  Replica replica;
  std::unique_ptr<TrainStep> step;
  std::shared_ptr<dataio::SplitReader> reader;
  dataio::Loader loader;
};

class StepTest : public testing::Test {
 protected:
  StepTest() { make_corpus(directory_.path()); }
  [[nodiscard]] const std::filesystem::path& corpus() const { return directory_.path(); }

 private:
  TemporaryDirectory directory_;
};

StopWish go_on() { return StopWish::kGoOn; }

TEST_F(StepTest, LossAndGradientAreThoseOfTheGlobalBatch) {
  for (const std::int64_t ranks : {1, 2, 3}) {
    parallel::run_thread_ranks(ranks, [&](parallel::Communicator& world) {
      Rig rig(corpus(), world);
      const at::Tensor before = rig.replica.parameters().clone();
      const double loss = rig.plain_loss();
      const StepResult result = run_step(*rig.step, 0, rig.loader, go_on);
      const at::Tensor gradient = rig.replica.gradients().clone();
      EXPECT_NEAR(result.loss, loss, 1e-12 * loss) << "ranks " << ranks;
      EXPECT_NEAR(result.grad_norm, std::sqrt(gradient.square().sum().item().toDouble()), 1e-12);
      EXPECT_FALSE(at::equal(rig.replica.parameters(), before));

      const at::NoGradGuard no_grad;
      constexpr double kStep = 1e-5;
      for (const auto& entry : rig.replica.layout().entries()) {
        const std::int64_t at = entry.offset + entry.numel / 2;
        const auto moved_loss = [&](double by) {
          rig.replica.parameters().copy_(before);
          rig.replica.parameters()[at] += by;
          return rig.plain_loss();
        };
        const double slope = (moved_loss(kStep) - moved_loss(-kStep)) / (2 * kStep);
        EXPECT_NEAR(gradient[at].item().toDouble(), slope, 1e-8) << entry.name << " ranks " << ranks;
      }
    });
  }
}

/// The owned parts of a flat buffer one after another.
at::Tensor owned_part(const optim::AdamW& optimizer, const at::Tensor& flat) {
  std::vector<at::Tensor> parts;
  for (const auto& range : optimizer.owned()) parts.push_back(flat.narrow(0, range.begin, range.numel()));
  return at::cat(parts);
}

TEST_F(StepTest, ShardedStateGivesTheBitsOfWholeState) {
  for (const at::ScalarType dtype : {at::kFloat, at::kDouble}) {
    for (const std::int64_t ranks : {1, 2, 3, 4}) {
      parallel::run_thread_ranks(ranks, [&](parallel::Communicator& world) {
        Rig plain(corpus(), world, dtype);
        Rig sharded(corpus(), world, dtype, Sharding::kState);
        EXPECT_GT(plain.replica.layout().buckets().size(), 2U);
        for (std::int64_t step = 0; step < 4; ++step) {
          const StepResult want = run_step(*plain.step, step, plain.loader, go_on);
          const StepResult found = run_step(*sharded.step, step, sharded.loader, go_on);
          EXPECT_EQ(found.loss, want.loss) << dtype << " ranks " << ranks << " step " << step;
          EXPECT_EQ(found.grad_norm, want.grad_norm) << dtype << " ranks " << ranks << " step " << step;
          EXPECT_TRUE(at::equal(sharded.replica.parameters(), plain.replica.parameters()))
              << dtype << " ranks " << ranks << " step " << step;
        }
        const optim::AdamW& whole = plain.step->optimizer();
        const optim::AdamW& part = sharded.step->optimizer();
        EXPECT_EQ(part.first_moment().numel() * ranks, whole.first_moment().numel());
        EXPECT_TRUE(at::equal(part.first_moment(), owned_part(part, whole.first_moment())));
        EXPECT_TRUE(at::equal(part.second_moment(), owned_part(part, whole.second_moment())));
      });
    }
  }
}

TEST_F(StepTest, OneRanksWishStopsAll) {
  parallel::run_thread_ranks(3, [&](parallel::Communicator& world) {
    Rig rig(corpus(), world);
    EXPECT_EQ(run_step(*rig.step, 0, rig.loader, go_on).stop, StopWish::kGoOn);
    const auto wish = [&] { return world.rank() == 1 ? StopWish::kStop : StopWish::kGoOn; };
    EXPECT_EQ(run_step(*rig.step, 1, rig.loader, wish).stop, StopWish::kStop);
  });
}

TEST_F(StepTest, ANanOnOneRankSkipsTheStepOnAll) {
  parallel::run_thread_ranks(3, [&](parallel::Communicator& world) {
    Rig rig(corpus(), world);
    EXPECT_FALSE(run_step(*rig.step, 0, rig.loader, go_on).skipped);
    const at::Tensor before = rig.replica.parameters().clone();
    const at::Tensor first = rig.step->optimizer().first_moment().clone();
    const at::Tensor broken = rig.replica.layout().view(rig.replica.parameters(), 1);
    if (world.rank() == 1) broken.fill_(std::numeric_limits<double>::quiet_NaN());
    const StepResult result = run_step(*rig.step, 1, rig.loader, go_on);
    EXPECT_TRUE(result.skipped) << "rank " << world.rank();
    EXPECT_FALSE(std::isfinite(result.loss));
    rig.replica.layout().view(rig.replica.parameters(), 1).copy_(rig.replica.layout().view(before, 1));
    EXPECT_TRUE(at::equal(rig.replica.parameters(), before));
    EXPECT_TRUE(at::equal(rig.step->optimizer().first_moment(), first));
    EXPECT_FALSE(run_step(*rig.step, 2, rig.loader, go_on).skipped) << "and the run goes on";
  });
}

}  // namespace
}  // namespace sluice::train
