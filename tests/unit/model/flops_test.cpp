#include "trainer/model/flops.h"

#include <c10/util/Exception.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <string>

namespace sluice::model {
namespace {

ModelOptions small(std::int64_t layers) {
  ModelOptions options;
  options.layers = layers, options.d_model = 6, options.d_ffn = 10, options.seq_len = 7;
  return options;
}

/// Multiply-adds of a sequence's forward, one by one: a loop over layers, positions and what each of them
/// reads.
struct HandCount {
  std::int64_t channel = 0;
  std::int64_t attention_out = 0;  ///< of them, between expansion and contraction
  std::int64_t scores = 0;         ///< of tiny attention, as often again for its values
  std::int64_t spatial_causal = 0;
  std::int64_t spatial_dense = 0;
  std::int64_t head = 0;
};

HandCount count_by_hand(const ModelOptions& options, std::int64_t vocabulary_size) {
  HandCount count;
  for (std::int64_t position = 0; position < options.seq_len; ++position) {
    for (std::int64_t layer = 0; layer < options.layers; ++layer) {
      for (std::int64_t out = 0; out < options.d_ffn; ++out) count.channel += options.d_model;
      const std::int64_t gated = options.gate == "split" ? options.d_ffn / 2 : options.d_ffn;
      for (std::int64_t out = 0; out < options.d_model; ++out) count.channel += gated;
      for (std::int64_t head = 0; head < options.tiny_attention; ++head) {
        count.channel += 3 * options.d_model + gated;
        count.attention_out += gated;
      }
      for (std::int64_t seen = 0; seen < options.seq_len; ++seen) {
        if (seen <= position || !options.causal) count.scores += options.tiny_attention;
        for (std::int64_t channel = 0; channel < gated; ++channel) {
          count.spatial_dense += 1;
          count.spatial_causal += seen <= position ? 1 : 0;
        }
      }
    }
    for (std::int64_t id = 0; id < vocabulary_size; ++id) count.head += options.d_model;
  }
  return count;
}

/// Two for a multiply-add.
double flops_of(std::int64_t multiply_adds) { return 2 * static_cast<double>(multiply_adds); }

constexpr double kForwardAndBoth = 3;  ///< forward, and a backward of two products for each of its

TEST(Flops, AreThoseCountedByHand) {
  for (const std::int64_t layers : {1, 4}) {
    const ModelOptions options = small(layers);
    const auto tokens = static_cast<double>(options.seq_len);
    const HandCount hand = count_by_hand(options, 11);
    const FlopCount count = count_flops(options, 11);
    EXPECT_DOUBLE_EQ(count.useful_per_token * tokens,
                     kForwardAndBoth * flops_of(hand.channel + hand.spatial_causal + hand.head));
    EXPECT_DOUBLE_EQ(count.executed_per_token * tokens,
                     kForwardAndBoth * flops_of(hand.channel + hand.spatial_dense + hand.head));
  }
}

TEST(Flops, OfAFusedBlockEndWithTheTile) {
  const ModelOptions options = small(2);  // of several tiles, the last one shorter
  const std::int64_t positions = options.seq_len;
  const std::int64_t rows = 3;
  ASSERT_NE(positions % rows, 0);
  std::int64_t pairs = 0;
  for (std::int64_t position = 0; position < positions; ++position)
    pairs += std::min(positions, (position / rows + 1) * rows);
  const HandCount hand = count_by_hand(options, 11);
  const std::int64_t spatial = hand.spatial_dense / (positions * positions) * pairs;
  const FlopCount count = count_flops(options, 11, Recompute::kNone, 1, {rows});
  EXPECT_DOUBLE_EQ(count.executed_per_token * static_cast<double>(positions),
                   kForwardAndBoth * flops_of(hand.channel + spatial + hand.head));
  EXPECT_DOUBLE_EQ(count.useful_per_token, count_flops(options, 11).useful_per_token);
}

TEST(Flops, OfVariantsAreThoseCountedByHand) {
  for (const bool causal : {true, false}) {
    for (const std::string gate : {"split", "linear"}) {
      ModelOptions options = small(3);
      options.causal = causal, options.gate = gate, options.tiny_attention = 4, options.spatial = "toeplitz";
      const auto tokens = static_cast<double>(options.seq_len);
      const HandCount hand = count_by_hand(options, 11);
      const std::int64_t spatial = causal ? hand.spatial_causal : hand.spatial_dense;
      const FlopCount none = count_flops(options, 11);
      EXPECT_DOUBLE_EQ(none.useful_per_token * tokens,
                       kForwardAndBoth * flops_of(hand.channel + spatial + 2 * hand.scores + hand.head));
      // The flash kernel computes scores again in backward, by itself.
      EXPECT_DOUBLE_EQ(
          none.executed_per_token * tokens,
          kForwardAndBoth * flops_of(hand.channel + hand.spatial_dense + 2 * hand.scores + hand.head) +
              flops_of(hand.scores));
      const FlopCount again = count_flops(options, 11, Recompute::kGate);
      EXPECT_DOUBLE_EQ((again.executed_per_token - none.executed_per_token) * tokens,
                       flops_of(hand.spatial_dense + 2 * hand.scores + hand.attention_out));
    }
  }
}

TEST(Flops, OfAFullMixingAreAllUseful) {
  ModelOptions options = small(3);
  options.causal = false;
  const FlopCount count = count_flops(options, 11);
  EXPECT_DOUBLE_EQ(count.useful_per_token, count.executed_per_token);
}

TEST(Flops, OfRecomputeAreExecutedAndNotUseful) {
  const ModelOptions options = small(4);
  const auto tokens = static_cast<double>(options.seq_len);
  const HandCount hand = count_by_hand(options, 11);
  const FlopCount none = count_flops(options, 11, Recompute::kNone);
  const FlopCount gate = count_flops(options, 11, Recompute::kGate);
  const FlopCount block = count_flops(options, 11, Recompute::kBlock);
  EXPECT_DOUBLE_EQ(gate.useful_per_token, none.useful_per_token);
  EXPECT_DOUBLE_EQ(block.useful_per_token, none.useful_per_token);
  EXPECT_DOUBLE_EQ((gate.executed_per_token - none.executed_per_token) * tokens,
                   flops_of(hand.spatial_dense));
  EXPECT_DOUBLE_EQ((block.executed_per_token - none.executed_per_token) * tokens,
                   flops_of(hand.channel + hand.spatial_dense));
}

/// A decoder's multiply-adds of a sequence, by loops over what each position reads.
TEST(Flops, OfATransformerAreThoseCountedByHand) {
  for (const std::string mlp : {"gelu", "swiglu"}) {
    ModelOptions options = small(3);
    options.kind = "transformer", options.heads = 2, options.mlp = mlp;
    std::int64_t channel = 0, scores = 0, head = 0;
    for (std::int64_t position = 0; position < options.seq_len; ++position) {
      for (std::int64_t layer = 0; layer < options.layers; ++layer) {
        channel += options.d_model * (3 * options.d_model + options.d_model);  // queries, keys, values; out
        channel += options.d_model * options.d_ffn * (mlp == "swiglu" ? 3 : 2);
        for (std::int64_t seen = 0; seen <= position; ++seen) scores += options.d_model;
      }
      head += 11 * options.d_model;
    }
    const auto tokens = static_cast<double>(options.seq_len);
    const FlopCount count = count_flops(options, 11);
    const double useful = kForwardAndBoth * flops_of(channel + 2 * scores + head);
    EXPECT_DOUBLE_EQ(count.useful_per_token * tokens, useful);
    EXPECT_DOUBLE_EQ(count.executed_per_token * tokens, useful + flops_of(scores));
    const FlopCount block = count_flops(options, 11, Recompute::kBlock);
    EXPECT_DOUBLE_EQ(block.useful_per_token, count.useful_per_token);
    EXPECT_DOUBLE_EQ((block.executed_per_token - count.executed_per_token) * tokens,
                     flops_of(channel + 2 * scores));
  }
}

/// With relative positions scores are held, so all of them run; without queries and keys the values alone are
/// projected and mixed.
TEST(Flops, OfRelativePositionsAreThoseCountedByHand) {
  for (const bool causal : {true, false}) {
    for (const std::string attention : {"full", "positions_only"}) {
      ModelOptions options = small(3);
      options.kind = "transformer", options.heads = 2, options.positions = "relative";
      options.attention = attention, options.causal = causal;
      const std::int64_t products = attention == "full" ? 2 : 1;
      std::int64_t channel = 0, seen = 0, all = 0, head = 0;
      for (std::int64_t position = 0; position < options.seq_len; ++position) {
        for (std::int64_t layer = 0; layer < options.layers; ++layer) {
          channel += options.d_model * options.d_model * (attention == "full" ? 4 : 2);
          channel += 2 * options.d_model * options.d_ffn;
          seen += products * options.d_model * (causal ? position + 1 : options.seq_len);
          all += products * options.d_model * options.seq_len;
        }
        head += 11 * options.d_model;
      }
      const auto tokens = static_cast<double>(options.seq_len);
      const FlopCount count = count_flops(options, 11);
      EXPECT_DOUBLE_EQ(count.useful_per_token * tokens, kForwardAndBoth * flops_of(channel + seen + head));
      EXPECT_DOUBLE_EQ(count.executed_per_token * tokens, kForwardAndBoth * flops_of(channel + all + head));
    }
  }
}

TEST(Flops, OfAMixerAreThoseCountedByHand) {
  ModelOptions options = small(3);
  options.kind = "mixer", options.causal = false, options.d_spatial = 5;
  std::int64_t count_of_blocks = 0, head = 0;
  for (std::int64_t layer = 0; layer < options.layers; ++layer) {
    for (std::int64_t channel = 0; channel < options.d_model; ++channel)
      count_of_blocks += options.seq_len * options.d_spatial + options.d_spatial * options.seq_len;
    for (std::int64_t position = 0; position < options.seq_len; ++position)
      count_of_blocks += options.d_model * options.d_ffn + options.d_ffn * options.d_model;
  }
  for (std::int64_t position = 0; position < options.seq_len; ++position) head += 11 * options.d_model;
  const auto tokens = static_cast<double>(options.seq_len);
  const FlopCount count = count_flops(options, 11);
  EXPECT_DOUBLE_EQ(count.useful_per_token * tokens, kForwardAndBoth * flops_of(count_of_blocks + head));
  EXPECT_DOUBLE_EQ(count.executed_per_token, count.useful_per_token);
  const FlopCount block = count_flops(options, 11, Recompute::kBlock);
  EXPECT_DOUBLE_EQ((block.executed_per_token - count.executed_per_token) * tokens, flops_of(count_of_blocks));
}

/// Two of seven positions are asked for; logits of all run.
TEST(Flops, OfAMaskedObjectiveCountTheLogitsThatItAsksFor) {
  ModelOptions options = small(3);
  options.causal = false;
  const FlopCount all = count_flops(options, 11);
  const FlopCount masked = count_flops(options, 11, Recompute::kNone, 2.0 / 7);
  EXPECT_DOUBLE_EQ(masked.executed_per_token, all.executed_per_token);
  EXPECT_NEAR((all.useful_per_token - masked.useful_per_token) * 7,
              kForwardAndBoth * flops_of(5 * 11 * options.d_model), 1e-9);
}

TEST(FlopUtilisation, IsTheShareOfThePeak) {
  // 2 GFLOP a token, 100 thousand tokens a second: 200 TFLOP/s of 400.
  EXPECT_DOUBLE_EQ(flop_utilisation(2e9, 1e5, 4e14), 0.5);
  EXPECT_THROW((void)flop_utilisation(2e9, 1e5, 0), c10::Error);
}

}  // namespace
}  // namespace sluice::model
