#include "trainer/train/masking.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/log_softmax.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <mutex>
#include <numeric>

#include "parallel/thread_communicator.h"
#include "tests/support/small_model.h"
#include "tests/unit/train/support.h"
#include "trainer/model/language_model.h"
#include "trainer/train/data_plan.h"
#include "trainer/train/errors.h"
#include "trainer/train/evaluate.h"
#include "trainer/train/step.h"

namespace sluice::train {
namespace {

using ::testing::HasSubstr;

constexpr std::int32_t kHidden = static_cast<std::int32_t>(model::kIgnore);
const MaskIds kIds{.mask_token = 11, .special_tokens = {3, 11}, .vocabulary_size = 12};

struct Masked {
  std::vector<std::int32_t> inputs;
  std::vector<std::int32_t> targets;
};

Masked masked(const Masking& masking, std::int64_t sample, const std::vector<std::int32_t>& window) {
  Masked out{std::vector<std::int32_t>(window.size()), std::vector<std::int32_t>(window.size())};
  mask_window(masking, sample, window, out.inputs, out.targets);
  return out;
}

RC_GTEST_PROP(Masking, HidesAFixedNumberOfTokensAndNoSpecialOne, ()) {
  const auto window = *rc::gen::nonEmpty(
      rc::gen::container<std::vector<std::int32_t>>(rc::gen::inRange<std::int32_t>(0, 12)));
  const Masking masking{.rate = *rc::gen::element(0.01, 0.15, 0.5, 1.0),
                        .seed = *rc::gen::arbitrary<std::uint64_t>(),
                        .ids = kIds};
  const Masked found = masked(masking, *rc::gen::inRange<std::int64_t>(0, 1000), window);
  const auto special = [](std::int32_t id) { return id == 3 || id == 11; };
  const auto ordinary = static_cast<std::int64_t>(window.size()) - std::ranges::count_if(window, special);
  const auto wished = std::max(1LL, std::llround(masking.rate * static_cast<double>(window.size())));
  RC_ASSERT(std::ranges::count_if(found.targets, [](std::int32_t t) { return t != kHidden; }) ==
            std::min<std::int64_t>(wished, ordinary));
  for (std::size_t i = 0; i < window.size(); ++i) {
    if (found.targets[i] == kHidden) {
      RC_ASSERT(found.inputs[i] == window[i]);
    } else {
      RC_ASSERT(found.targets[i] == window[i]);
      RC_ASSERT(!special(window[i]));
      RC_ASSERT(found.inputs[i] == kIds.mask_token || !special(found.inputs[i]));
    }
  }
}

TEST(Masking, SharesPositionsAndRandomTokensAreThoseAskedFor) {
  constexpr std::int64_t kLength = 64, kSamples = 4000;
  const Masking masking{.rate = 0.25, .mask_token_share = 0.6, .random_share = 0.3, .seed = 5, .ids = kIds};
  std::vector<std::int32_t> window(kLength, 7);
  std::map<std::int32_t, double> shown;
  std::vector<double> at(kLength, 0);
  for (std::int64_t sample = 0; sample < kSamples; ++sample) {
    const Masked found = masked(masking, sample, window);
    for (std::size_t i = 0; i < window.size(); ++i) {
      if (found.targets[i] == kHidden) continue;
      ++shown[found.inputs[i]];
      ++at[i];
    }
  }
  const double all = kSamples * kLength / 4.0;
  EXPECT_NEAR(shown[11] / all, 0.6, 0.01);
  EXPECT_NEAR(shown[7] / all, 0.1 + 0.3 / 10, 0.01) << "as it is, or drawn";
  for (const std::int32_t id : {0, 1, 2, 4, 5, 6, 8, 9, 10}) EXPECT_NEAR(shown[id] / all, 0.03, 0.005) << id;
  for (const double count : at) EXPECT_NEAR(count / kSamples, 0.25, 0.035);
}

TEST(Masking, IsAFunctionOfSeedSampleAndStream) {
  std::vector<std::int32_t> window(40);
  std::iota(window.begin(), window.end(), 20);
  Masking masking{
      .rate = 0.3, .seed = 1, .ids = {.mask_token = 99, .special_tokens = {99}, .vocabulary_size = 100}};
  const Masked first = masked(masking, 8, window);
  EXPECT_EQ(masked(masking, 8, window).inputs, first.inputs);
  EXPECT_NE(masked(masking, 9, window).targets, first.targets);
  masking.seed = 2;
  EXPECT_NE(masked(masking, 8, window).targets, first.targets);
  masking.seed = 1;
  masking.stream = MaskStream::kEvaluation;
  EXPECT_NE(masked(masking, 8, window).targets, first.targets);
}

class MlmTest : public ::testing::Test {
 protected:
  MlmTest() { make_corpus(corpus(), dataio::MaskToken::kAdd); }
  [[nodiscard]] std::filesystem::path corpus() const { return directory_.path() / "corpus"; }
  [[nodiscard]] RunOptions options(const std::string& name) const {
    RunOptions run = small_run(corpus(), directory_.path() / name);
    run.model.causal = false;
    run.train.objective = "mlm";
    run.train.mask_rate = 0.3;
    run.train.precision = "fp64";
    return run;
  }
  [[nodiscard]] MaskIds ids() const { return *mask_ids_of(*dataio::load_tokenizer(corpus())); }

 private:
  TemporaryDirectory directory_;
};

/// Rows of steps 0 ... 4 by sample, gathered over ranks.
std::map<std::int64_t, std::vector<std::int32_t>> rows_of(const RunOptions& options, const MaskIds& ids,
                                                          std::int64_t ranks) {
  const dataio::Corpus corpus = dataio::Corpus::open(options.data.corpus);
  const dataio::SplitLayout& split = corpus.split("train");
  std::map<std::int64_t, std::vector<std::int32_t>> rows;
  for (std::int64_t rank = 0; rank < ranks; ++rank) {
    const dataio::Slicing slicing{.global_batch = options.train.global_batch,
                                  .micro_batch = options.train.micro_batch,
                                  .world_size = ranks,
                                  .rank = rank};
    dataio::Loader loader(
        std::make_shared<dataio::SplitReader>(split, corpus.vocabulary_size(), dataio::ReaderOptions{}),
        sample_order(options, split), slicing,
        loader_options(options, at::kCPU, training_masking(options, ids)), 0);
    for (std::int64_t i = 0; i < 5 * slicing.micro_batches(); ++i) {
      const dataio::Batch batch = loader.next();
      const auto width = batch.tokens.size() / static_cast<std::size_t>(options.train.micro_batch);
      for (std::int64_t row = 0; row < batch.rows; ++row) {
        const auto tokens = batch.tokens.subspan(static_cast<std::size_t>(row) * width, width);
        EXPECT_TRUE(
            rows.emplace(batch.samples.first + row, std::vector(tokens.begin(), tokens.end())).second);
      }
    }
  }
  return rows;
}

TEST_F(MlmTest, MasksAreTheSameForAnyRanksAndMicroBatches) {
  RunOptions run = options("rows");
  const auto one = rows_of(run, ids(), 1);
  ASSERT_EQ(one.size(), 40U);
  EXPECT_EQ(one.at(0).size(), 16U) << "8 inputs, 8 targets";
  EXPECT_NE(one.at(0), one.at(1));
  for (const std::int64_t ranks : {2, 3}) {
    for (const std::int64_t micro_batch : {1, 3}) {
      run.train.micro_batch = micro_batch;
      EXPECT_EQ(rows_of(run, ids(), ranks), one) << ranks << " ranks, micro-batches of " << micro_batch;
    }
  }
}

TEST_F(MlmTest, LossIsTheMeanOverHiddenTokensOfTheGlobalBatch) {
  const RunOptions run = options("loss");
  for (const std::int64_t ranks : {1, 2, 3}) {
    parallel::run_thread_ranks(ranks, [&](parallel::Communicator& world) {
      const dataio::Corpus corpus_files = dataio::Corpus::open(corpus());
      const dataio::SplitLayout& split = corpus_files.split("train");
      const auto reader = std::make_shared<dataio::SplitReader>(split, corpus_files.vocabulary_size(),
                                                                dataio::ReaderOptions{});
      const dataio::Slicing slicing = slicing_of(run, world);
      Replica replica(run.model, corpus_files.vocabulary_size(), at::kDouble, ReplicaUse::kTraining,
                      {.bucket_elements = 300, .world = world.size()});
      replica.initialise(11);
      const Masking masking = training_masking(run, ids());
      double expected = 0;
      {
        const at::NoGradGuard no_grad;
        for (std::int64_t sample = 0; sample < run.train.global_batch; ++sample) {
          std::vector<std::int32_t> window(8);
          reader->read(sample_order(run, split).window(sample).begin, window);
          const Masked row = masked(masking, sample, window);
          at::Tensor tokens = at::empty({1, 8}, at::kLong);
          std::ranges::copy(row.inputs, tokens.mutable_data_ptr<std::int64_t>());
          const at::Tensor log_p = replica.model().logits(tokens).log_softmax(-1);
          for (std::int64_t t = 0; t < 8; ++t) {
            const std::int32_t target = row.targets[static_cast<std::size_t>(t)];
            if (target != kHidden) expected -= log_p[0][t][target].item().toDouble() / (8 * 2);
          }
        }
      }
      const auto step = make_train_step(replica, step_plan(run, slicing), world);
      dataio::Loader loader(reader, sample_order(run, split), slicing, loader_options(run, at::kCPU, masking),
                            0);
      const StepResult result = run_step(*step, 0, loader, [] { return StopWish::kGoOn; });
      EXPECT_NEAR(result.loss, expected, 1e-12 * expected)
          << "8 windows, 2 of 8 tokens each, ranks " << ranks;
    });
  }
}

TEST_F(MlmTest, AnyRanksTrainTheSameModelAndResumeBitExactly) {
  const RanksResult one = run_on_ranks(1, options("one"));
  EXPECT_LT(one.told.losses.back(), one.told.losses.front());
  ASSERT_FALSE(one.told.valid.empty());
  EXPECT_EQ(one.told.valid.front().tokens, 9 * 2 + 2) << "9 windows of 8 tokens, and one of 5";
  for (const std::int64_t ranks : {2, 3}) {
    const RanksResult other = run_on_ranks(ranks, options("ranks" + std::to_string(ranks)));
    EXPECT_TRUE(other.replicas_equal);
    EXPECT_LE(sluice::testing::relative_error(other.parameters, one.parameters), 1e-10) << ranks;
    EXPECT_NEAR(other.told.valid.back().loss, one.told.valid.back().loss, 1e-9);
  }
  const RunOptions run = options("resumed");
  EXPECT_EQ(run_on_ranks(1, run, {.stop_in_step = 7, .verdict = {}}).outcome, TrainOutcome::kStoppedEarly);
  const RanksResult resumed = run_on_ranks(1, run);
  EXPECT_TRUE(at::equal(resumed.parameters, one.parameters));
}

TEST_F(MlmTest, EvaluationHidesTheSameTokensWhateverTheSeedRanksAndMicroBatch) {
  const dataio::Corpus files = dataio::Corpus::open(corpus());
  RunOptions run = options("evaluated");
  Replica replica(run.model, files.vocabulary_size(), at::kDouble, ReplicaUse::kInference);
  replica.initialise(5);
  const auto loss = [&](std::int64_t ranks, std::int64_t micro_batch) {
    EvaluationResult result;
    std::mutex mutex;
    parallel::run_thread_ranks(ranks, [&](parallel::Communicator& world) {
      dataio::SplitReader reader(files.split("valid"), files.vocabulary_size(), dataio::ReaderOptions{});
      const EvaluationResult mine = evaluate(
          replica.model(), reader,
          {.seq_len = 8, .micro_batch = micro_batch, .masking = evaluation_masking(run.train, ids())}, world);
      const std::lock_guard lock(mutex);
      result = mine;
    });
    return result;
  };
  const EvaluationResult one = loss(1, 2);
  EXPECT_EQ(loss(3, 2).loss, one.loss);
  run.data.seed = 77;
  EXPECT_EQ(loss(2, 2).loss, one.loss);
  EXPECT_NEAR(loss(1, 5).loss, one.loss, 1e-12);
  EXPECT_EQ(loss(1, 5).tokens, one.tokens);
}

TEST_F(MlmTest, ATokenizerWithoutAMaskTokenIsRefused) {
  const TemporaryDirectory plain;
  make_corpus(plain.path());
  RunOptions run = options("refused");
  run.data.corpus = plain.path().string();
  try {
    (void)run_on_ranks(1, run);
    FAIL() << "trained";
  } catch (const InputError& error) {
    EXPECT_THAT(error.what(), HasSubstr("has no mask token to hide tokens behind"));
  }
}

}  // namespace
}  // namespace sluice::train
