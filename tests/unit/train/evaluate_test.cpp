#include "trainer/train/evaluate.h"

#include <ATen/ops/zeros.h>
#include <gtest/gtest.h>

#include <memory>
#include <mutex>
#include <set>
#include <vector>

#include "dataio/corpus.h"
#include "parallel/thread_communicator.h"
#include "tests/unit/train/support.h"
#include "trainer/train/errors.h"
#include "trainer/train/replica.h"

namespace sluice::train {
namespace {

/// "Loss" of a target is the target itself; notes the sequences it was given.
class EchoModel : public model::LanguageModel {
 public:
  [[nodiscard]] at::Tensor logits(const at::Tensor& tokens_BT) const override { return tokens_BT; }
  [[nodiscard]] at::Tensor loss_sum(const at::Tensor& tokens_BT,
                                    const at::Tensor& targets_BT) const override {
    lengths.insert(tokens_BT.size(1));
    return targets_BT.sum().to(at::kDouble);
  }
  [[nodiscard]] at::Tensor target_losses(const at::Tensor& /*tokens_BT*/, const at::Tensor& targets_BT,
                                         const kernels::SequenceExchange* /*exchange*/) const override {
    return targets_BT.to(at::kDouble);
  }
  void on_parameter_use(std::function<void(std::int64_t)> /*before_use*/) override {}
  [[nodiscard]] std::unique_ptr<model::DecodeCache> make_cache() const override { return nullptr; }
  [[nodiscard]] at::Tensor prefill(const at::Tensor& tokens_T, model::DecodeCache& /*cache*/) const override {
    return tokens_T;
  }
  [[nodiscard]] at::Tensor decode(std::int64_t /*token*/, model::DecodeCache& /*cache*/) const override {
    return {};
  }

  mutable std::set<std::int64_t> lengths;
};

class EvaluateTest : public testing::Test {
 protected:
  EvaluateTest() {
    make_corpus(directory_.path());
    corpus_ = dataio::Corpus::open(directory_.path());
  }
  [[nodiscard]] std::unique_ptr<dataio::SplitReader> reader() const {
    return std::make_unique<dataio::SplitReader>(corpus_.split("valid"), corpus_.vocabulary_size(),
                                                 dataio::ReaderOptions{});
  }
  [[nodiscard]] EvaluationResult on_ranks(std::int64_t ranks, const model::LanguageModel& model,
                                          const EvaluationPlan& plan) const {
    EvaluationResult result;
    std::mutex mutex;
    parallel::run_thread_ranks(ranks, [&](parallel::Communicator& world) {
      const auto own = reader();
      const EvaluationResult mine = evaluate(model, *own, plan, world);
      const std::lock_guard lock(mutex);
      EXPECT_TRUE(result.tokens == 0 || mine.loss == result.loss) << "all ranks get the same";
      result = mine;
    });
    return result;
  }

  dataio::Corpus corpus_;

 private:
  TemporaryDirectory directory_;
};

TEST_F(EvaluateTest, EveryTokenButTheFirstIsPredictedOnce) {
  std::vector<std::int32_t> all(77);
  reader()->read(0, all);
  double sum = 0;
  for (std::size_t i = 1; i < all.size(); ++i) sum += all[i];
  const EchoModel model;
  const EvaluationResult result = on_ranks(1, model, {.seq_len = 8, .micro_batch = 3, .batches = 0});
  EXPECT_EQ(result.tokens, 76);
  EXPECT_EQ(result.loss_sum, sum);
  EXPECT_EQ(result.loss, sum / 76);
  EXPECT_EQ(model.lengths, (std::set<std::int64_t>{4, 8})) << "nine whole windows and a tail of four";
}

TEST_F(EvaluateTest, EveryWorldSizeGivesTheSameBits) {
  Replica replica(small_run("", "x").model, corpus_.vocabulary_size(), at::kFloat, ReplicaUse::kInference);
  replica.initialise(5);
  const EvaluationPlan plan{.seq_len = 8, .micro_batch = 2, .batches = 0};
  const EvaluationResult one = on_ranks(1, replica.model(), plan);
  EXPECT_GT(one.loss, 0);
  for (const std::int64_t ranks : {2, 3, 7})
    EXPECT_EQ(on_ranks(ranks, replica.model(), plan).loss, one.loss) << ranks;
}

TEST_F(EvaluateTest, SomeBatchesAreTheSameOnesForAnyWorldSize) {
  const EchoModel model;
  const EvaluationPlan plan{.seq_len = 8, .micro_batch = 2, .batches = 3};
  const EvaluationResult one = on_ranks(1, model, plan);
  EXPECT_EQ(one.batches, 3);
  EXPECT_EQ(one.tokens, 40) << "batches 0, 2 and 4 of 6: the fifth holds the ninth window alone";
  EXPECT_EQ(on_ranks(4, model, plan).loss_sum, one.loss_sum);
}

TEST_F(EvaluateTest, ASplitWithNothingToPredictIsRefused) {
  dataio::SplitLayout empty = corpus_.split("valid");
  empty.shards.clear();
  empty.tokens = 0;
  dataio::SplitReader nothing(empty, corpus_.vocabulary_size(), dataio::ReaderOptions{});
  const auto local = parallel::make_local_communicator();
  EXPECT_THROW(static_cast<void>(
                   evaluate(EchoModel(), nothing, {.seq_len = 8, .micro_batch = 2, .batches = 0}, *local)),
               InputError);
}

}  // namespace
}  // namespace sluice::train
