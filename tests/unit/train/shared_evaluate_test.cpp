#include <ATen/ops/log_softmax.h>
#include <ATen/ops/zeros.h>
#include <gtest/gtest.h>

#include <mutex>
#include <string>
#include <vector>

#include "parallel/thread_communicator.h"
#include "tests/unit/train/support.h"
#include "trainer/train/evaluate.h"
#include "trainer/train/state_gather.h"

// Evaluation by ranks that share windows, and the loss of each position, against sums over whole logits.

namespace sluice::train {
namespace {

constexpr std::int64_t kMicroBatch = 2;

class SharedEvaluateTest : public ::testing::Test {
 protected:
  SharedEvaluateTest() {
    make_corpus(directory_.path() / "causal");
    make_corpus(directory_.path() / "masked", dataio::MaskToken::kAdd);
  }

  [[nodiscard]] RunOptions options_of(bool causal, std::int64_t seq_len) const {
    RunOptions options = small_run(directory_.path() / (causal ? "causal" : "masked"), "unused");
    options.model.seq_len = seq_len;
    options.model.causal = causal;
    options.model.spatial_init = 1;
    return options;
  }
  [[nodiscard]] static std::unique_ptr<dataio::SplitReader> valid_of(const RunOptions& options) {
    const dataio::Corpus corpus = dataio::Corpus::open(options.data.corpus);
    return std::make_unique<dataio::SplitReader>(corpus.split("valid"), corpus.vocabulary_size(),
                                                 dataio::ReaderOptions{});
  }
  [[nodiscard]] static EvaluationPlan plan_of(const RunOptions& options) {
    EvaluationPlan plan{.seq_len = options.model.seq_len, .micro_batch = kMicroBatch};
    if (options.model.causal) return plan;
    const dataio::Corpus corpus = dataio::Corpus::open(options.data.corpus);
    const std::int64_t vocabulary = corpus.vocabulary_size();
    const auto mask = static_cast<std::int32_t>(vocabulary - 1);
    plan.masking = evaluation_masking(
        options.train, {.mask_token = mask, .special_tokens = {mask}, .vocabulary_size = vocabulary});
    return plan;
  }
  /// A checkpoint's stand-in: every rank draws the same whole model and keeps what it holds.
  [[nodiscard]] static EvaluationResult evaluate_on(std::int64_t ranks, const RunOptions& options) {
    EvaluationResult result;
    std::mutex mutex;
    parallel::run_thread_ranks(ranks, [&](parallel::Communicator& world) {
      const dataio::Corpus corpus = dataio::Corpus::open(options.data.corpus);
      SequenceRanks sequence(options, world);
      Replica replica(options.model, corpus.vocabulary_size(), at::kDouble, ReplicaUse::kInference,
                      {.world = world.size(), .sequence_ranks = sequence.ranks()}, model::Recompute::kNone,
                      {}, sequence.exchange());
      at::Tensor whole;
      if (world.rank() == 0) {
        whole = whole_buffer(replica.state_layout(), replica.parameters());
        replica.draw(7, whole);
      }
      share_buffer(replica.state_layout(), whole, replica.parameters(), world);
      EvaluationPlan plan = plan_of(options);
      plan.sequence = &sequence;
      const auto reader = valid_of(options);
      const EvaluationResult mine = evaluate_positions(replica.model(), *reader, plan, world);
      const EvaluationResult plain = evaluate(replica.model(), *reader, plan, world);
      const std::lock_guard lock(mutex);
      EXPECT_NEAR(plain.loss, mine.loss, 1e-12 * mine.loss);
      EXPECT_EQ(plain.tokens, mine.tokens);
      EXPECT_TRUE(result.tokens == 0 || mine.loss == result.loss) << "all ranks get the same";
      result = mine;
    });
    return result;
  }

  static void expect_same(const EvaluationResult& found, const EvaluationResult& want,
                          const std::string& what) {
    EXPECT_EQ(found.tokens, want.tokens) << what;
    EXPECT_NEAR(found.loss, want.loss, 1e-12 * want.loss) << what;
    ASSERT_EQ(found.positions.size(), want.positions.size()) << what;
    for (std::size_t at = 0; at < want.positions.size(); ++at) {
      EXPECT_EQ(found.positions[at].targets, want.positions[at].targets) << what << " position " << at;
      EXPECT_NEAR(found.positions[at].sum, want.positions[at].sum, 1e-10) << what << " position " << at;
    }
  }

 private:
  TemporaryDirectory directory_;
};

TEST_F(SharedEvaluateTest, EveryMeshAndModeGivesTheLossOfOneRank) {
  for (const bool causal : {true, false}) {
    for (const std::int64_t seq_len : {8, 37}) {  // 76 inputs: windows and a tail of 4 or 2 positions
      RunOptions options = options_of(causal, seq_len);
      const EvaluationResult want = evaluate_on(1, options);
      EXPECT_GT(want.loss, 0);
      for (const std::int64_t sp : {2, 3, 4}) {
        for (const std::int64_t dp : {1, 2}) {
          for (const char* const mode : {"alltoall", "rowshard", "ring"}) {
            options.parallel.sp = sp;
            options.parallel.sp_mode = mode;
            expect_same(evaluate_on(sp * dp, options), want,
                        std::string(mode) + (causal ? " causal" : " masked") + " n " +
                            std::to_string(seq_len) + " sp " + std::to_string(sp) + " dp " +
                            std::to_string(dp));
          }
        }
      }
    }
  }
}

TEST_F(SharedEvaluateTest, AlsoOfOtherModels) {
  std::vector<RunOptions> all(4, options_of(true, 19));
  all[0].model.tiny_attention = 4;
  all[1].model.spatial = "toeplitz";
  all[1].model.spatial_heads = 2;
  all[2].model.kind = all[3].model.kind = "transformer";
  all[2].model.heads = all[3].model.heads = 2;
  all[2].model.positions = "rotary";
  all[3].model.positions = "learned+relative";
  for (RunOptions& options : all) {
    const EvaluationResult want = evaluate_on(1, options);
    for (const std::int64_t sp : {2, 3}) {
      options.parallel.sp = sp;
      expect_same(evaluate_on(sp, options), want, options.model.kind + " sp " + std::to_string(sp));
    }
    options.parallel.sp = 1;
  }
}

/// The loss at each position of the whole windows, from logits.
std::vector<PositionLoss> by_hand(const model::LanguageModel& model, const std::vector<std::int32_t>& ids,
                                  std::int64_t seq_len) {
  const auto inputs = static_cast<std::int64_t>(ids.size()) - 1;
  std::vector<PositionLoss> positions(static_cast<std::size_t>(seq_len));
  for (std::int64_t begin = 0; begin < inputs; begin += seq_len) {
    const std::int64_t length = std::min(seq_len, inputs - begin);
    const at::Tensor tokens = at::zeros({1, length}, at::kLong);
    for (std::int64_t i = 0; i < length; ++i)
      tokens.data_ptr<std::int64_t>()[i] = ids[static_cast<std::size_t>(begin + i)];
    const at::Tensor log_p = at::log_softmax(model.logits(tokens).to(at::kDouble), -1);
    for (std::int64_t i = 0; i < length; ++i) {
      PositionLoss& one = positions[static_cast<std::size_t>(i)];
      one.sum -= log_p.select(0, 0)
                     .select(0, i)
                     .select(0, ids[static_cast<std::size_t>(begin + i + 1)])
                     .item<double>();
      ++one.targets;
    }
  }
  return positions;
}

TEST_F(SharedEvaluateTest, TheLossOfAPositionIsThatOfItsLogits) {
  for (const char* const kind : {"gmlp", "transformer"}) {
    RunOptions options = options_of(true, 8);
    options.model.kind = kind;
    options.model.heads = 2;
    const dataio::Corpus corpus = dataio::Corpus::open(options.data.corpus);
    Replica replica(options.model, corpus.vocabulary_size(), at::kDouble, ReplicaUse::kInference);
    replica.initialise(7);
    std::vector<std::int32_t> ids(77);
    valid_of(options)->read(0, ids);
    const auto want = by_hand(replica.model(), ids, 8);
    const auto local = parallel::make_local_communicator();
    const auto reader = valid_of(options);
    const EvaluationResult found = evaluate_positions(replica.model(), *reader, plan_of(options), *local);
    ASSERT_EQ(found.positions.size(), 8U);
    for (std::size_t at = 0; at < 8; ++at) {
      EXPECT_EQ(found.positions[at].targets, at < 4 ? 10 : 9) << "nine windows and a tail of four";
      EXPECT_NEAR(found.positions[at].sum, want[at].sum, 1e-10) << kind << " position " << at;
    }
  }
}

TEST_F(SharedEvaluateTest, AMixerIsEvaluatedByPositionToo) {
  RunOptions options = options_of(false, 8);
  options.model.kind = "mixer";
  options.model.d_spatial = 8;
  const EvaluationResult result = evaluate_on(1, options);
  std::int64_t targets = 0;
  double sum = 0;
  for (const PositionLoss& position : result.positions) {
    targets += position.targets;
    sum += position.sum;
  }
  EXPECT_EQ(targets, result.tokens);
  EXPECT_NEAR(sum, result.loss_sum, 1e-10);
}

}  // namespace
}  // namespace sluice::train
