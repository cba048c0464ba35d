#include "trainer/train/exchange_cost.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <optional>
#include <string>
#include <vector>

#include "parallel/thread_communicator.h"
#include "trainer/train/exchange_choice.h"
#include "trainer/train/sequence_ranks.h"

namespace sluice::train {
namespace {

using kernels::ExchangeMode;
using kernels::Mixing;
using ::testing::HasSubstr;

/// 16 positions of two ranks in tiles of four: rank 0 holds the first and the last, rank 1 those between.
ExchangeShape small(Mixing mixing) {
  return {.rows = {16, 2, 4}, .batch = 3, .channels = 10, .mixing = mixing, .compute_bytes = 2};
}

/// A link for each collective that one digit of the result shows; products of one FLOP a second.
ExchangeRates digits() {
  ExchangeRates rates;
  rates.all_to_all = {.latency_s = 1, .s_per_byte = 0};
  rates.all_gather = {.latency_s = 10, .s_per_byte = 0};
  rates.reduce_scatter = {.latency_s = 100, .s_per_byte = 0};
  rates.pass = {.latency_s = 1000, .s_per_byte = 0};
  rates.all_reduce = {.latency_s = 0, .s_per_byte = 1};
  rates.flops_per_s = rates.narrow_flops_per_s = 1;
  rates.pass_bytes_per_s = 1;
  return rates;
}

/// Rows of W in tiles (4 x 4 = 16 pairs each); three products of 2 B c FLOPs a pair.
TEST(ExchangeCost, IsThatCountedByHand) {
  for (const Mixing mixing : {Mixing::kFull, Mixing::kCausal}) {
    const auto predictions = predict_exchanges(small(mixing), digits());
    ASSERT_EQ(predictions.size(), 3U);
    const double all_tiles = mixing == Mixing::kFull ? 16 : 10;  // 1 + 2 + 3 + 4 up to the diagonal
    const double own_tiles = mixing == Mixing::kFull ? 8 : 5;    // both ranks: 1 + 4, 2 + 3
    constexpr double kPair = 3 * 2 * 3;                          // products, FLOPs, sequences
    EXPECT_EQ(predictions[0].exchange_s, 5);
    EXPECT_EQ(predictions[0].product_s, all_tiles * 16 * kPair * 5) << "half of the channels";
    EXPECT_EQ(predictions[0].gradient_s, 16 * 16 * 4) << "of all of W, float32, over both ranks";
    EXPECT_EQ(predictions[0].update_s, 7 * 16 * 16 * 4);
    EXPECT_EQ(predictions[1].exchange_s, 2 * 10 + 100);
    EXPECT_EQ(predictions[1].product_s, own_tiles * 16 * kPair * 10);
    EXPECT_EQ(predictions[1].gradient_s, 0) << "no other rank has these rows";
    EXPECT_EQ(predictions[1].update_s, 7 * 8 * 16 * 4) << "half of W";
    EXPECT_EQ(predictions[2].exchange_s, 3 * 1000) << "one message of each product";
    // A step ends with its slower rank. Causal: the own blocks take 3 tiles, then rank 0 has both of rank 1's
    // under its tail, rank 1 the head of rank 0 under both its own: 2 tiles each.
    EXPECT_EQ(predictions[2].product_s, (mixing == Mixing::kFull ? 8 : 3 + 2) * 16 * kPair * 10);
    EXPECT_EQ(predictions[2].gradient_s, 0);
  }
}

TEST(ExchangeCost, BytesAreThoseThatTravel) {
  ExchangeRates rates = digits();
  rates.all_to_all = rates.all_gather = rates.reduce_scatter = rates.pass = {.latency_s = 0, .s_per_byte = 1};
  const auto full = predict_exchanges(small(Mixing::kFull), rates);
  constexpr double kAll = 3 * 16 * 10 * 2;  // B n c in two bytes
  EXPECT_EQ(full[0].exchange_s, 5 * kAll / 2) << "parts of all ranks, each for its channels";
  EXPECT_EQ(full[1].exchange_s, 3 * kAll);
  EXPECT_EQ(full[2].exchange_s, 3 * kAll / 2);
  // Causal, rank 1 is sent the head of rank 0 alone, but rank 0 all of rank 1: the busier counts.
  EXPECT_EQ(predict_exchanges(small(Mixing::kCausal), rates)[2].exchange_s, 3 * kAll / 2);
}

TEST(ExchangeCost, AProductHidesARingsMessages) {
  ExchangeRates rates = digits();
  rates.passes_hidden = 1;
  rates.gathers_hidden = 1;
  const auto predictions = predict_exchanges(small(Mixing::kFull), rates);
  EXPECT_EQ(predictions[2].exchange_s, 0) << "1000 s beside a product of 4 x 16 pairs, 60 s each";
  rates.pass.latency_s = 1e6;
  EXPECT_EQ(predict_exchanges(small(Mixing::kFull), rates)[2].exchange_s, 3 * (1e6 - 4 * 16 * 60));
}

TEST(ExchangeCost, AGatherWaitsForItsFirstPieceAlone) {
  ExchangeRates rates = digits();
  rates.gathers_hidden = 1;
  const ExchangeShape three = small(Mixing::kFull);
  EXPECT_NEAR(predict_exchanges(three, rates)[1].exchange_s, 10.0 / 3, 1e-9) << "one of 3 sequences";
  ExchangeShape one = three;
  one.batch = 1;
  EXPECT_EQ(predict_exchanges(one, rates)[1].exchange_s, 10) << "nothing to multiply meanwhile";
  rates.gathers_hidden = 0.5;
  EXPECT_NEAR(predict_exchanges(three, rates)[1].exchange_s, 10 - 10.0 / 3 + 10.0 / 2 + 100.0 / 2, 1e-9);
}

TEST(ExchangeCost, AnUpdateMayLeaveTheTriangleOut) {
  ExchangeRates rates = digits();
  rates.skips_triangle = true;
  EXPECT_EQ(predict_exchanges(small(Mixing::kFull), rates)[0].update_s, 7 * 16 * 16 * 4);
  EXPECT_EQ(predict_exchanges(small(Mixing::kCausal), rates)[0].update_s, 7 * 16 * 16 * 4 / 2);
}

TEST(ExchangeCost, TheCheapestOfThoseThatCanIsTaken) {
  ExchangeRates rates = digits();
  EXPECT_EQ(cheapest(predict_exchanges(small(Mixing::kFull), rates)).mode, ExchangeMode::kRowShard);
  rates.pass.latency_s = 1;
  EXPECT_EQ(cheapest(predict_exchanges(small(Mixing::kFull), rates)).mode, ExchangeMode::kRing);
  ExchangeShape toeplitz = small(Mixing::kFull);
  toeplitz.free = false;  // no gradient of n^2 weights
  rates.pass.latency_s = 1000;
  EXPECT_EQ(cheapest(predict_exchanges(toeplitz, rates)).mode, ExchangeMode::kAllToAll);
  toeplitz.heads = 2;
  EXPECT_EQ(predict_exchanges(toeplitz, rates).size(), 2U) << "all-to-all deals out channels";
  EXPECT_THAT(prediction_text(predict_exchanges(toeplitz, rates)), HasSubstr("rowshard"));
}

TEST(ExchangeCost, RatesAreMeasuredAndTheSameOnAllRanks) {
  RunOptions options;
  options.model.seq_len = 64;
  options.model.d_ffn = 32;
  options.parallel.sp = 2;
  options.train.global_batch = 4;
  const ExchangeShape shape = exchange_shape(options, 4);
  EXPECT_EQ(shape.data_ranks, 2);
  EXPECT_EQ(shape.channels, 16);
  EXPECT_EQ(shape.batch, 2);
  std::vector<std::string> told(4);
  parallel::run_thread_ranks(4, [&](parallel::Communicator& world) {
    DeviceGroup group("cpu", world);
    const ExchangeChoice choice = choose_exchange(options, std::nullopt, group);
    EXPECT_EQ(choice.predictions.size(), 3U);
    EXPECT_EQ(choice.options.parallel.sp_mode, exchange_name(cheapest(choice.predictions).mode));
    for (const ExchangePrediction& one : choice.predictions) EXPECT_GT(one.total_s(), 0);
    told[static_cast<std::size_t>(world.rank())] = prediction_text(choice.predictions);
    const ExchangeChoice kept = choose_exchange(options, ExchangeMode::kRing, group);
    EXPECT_EQ(kept.options.parallel.sp_mode, "ring") << "what an earlier session chose is not measured again";
    EXPECT_TRUE(kept.predictions.empty());
  });
  for (const std::string& one : told) EXPECT_EQ(one, told[0]);
}

}  // namespace
}  // namespace sluice::train
