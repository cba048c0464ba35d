#include "trainer/model/flops.h"

#include <c10/util/Exception.h>

#include <algorithm>

#include "trainer/kernels/spatial.h"
#include "trainer/model/activations.h"

namespace sluice::model {

namespace {

/// FLOPs of one token's forward through one block.
struct BlockFlops {
  double channel = 0;          ///< products over channels
  double positions = 0;        ///< products over positions that the model asks for
  double positions_run = 0;    ///< those that run
  double positions_again = 0;  ///< of them, run in backward beside its two products for each
  double gate_channel = 0;     ///< products over channels between expansion and contraction
};

/// The share of all pairs of positions that are used.
double used_pairs(const ModelOptions& options) {
  const auto positions = static_cast<double>(options.seq_len);
  return options.causal ? (positions + 1) / (2 * positions) : 1.0;
}

/// The share of all pairs of positions that a spatial product runs over.
double run_pairs(const ModelOptions& options, const SpatialRun& run) {
  const std::int64_t positions = options.seq_len;
  if (!options.causal || run.rows_at_once == 0) return 1.0;
  double pairs = 0;
  for (std::int64_t first = 0; first < positions; first += run.rows_at_once) {
    const std::int64_t end = std::min(first + run.rows_at_once, positions);
    pairs += static_cast<double>(end - first) * static_cast<double>(end);
  }
  return pairs / (static_cast<double>(positions) * static_cast<double>(positions));
}

/// Tiny attention runs the flash kernel, which skips what is masked, and computes the scores again in
/// backward.
BlockFlops gmlp_block_flops(const ModelOptions& options, const SpatialRun& run) {
  const auto width = static_cast<double>(options.d_model);
  const auto hidden = static_cast<double>(options.d_ffn);
  const auto gated = static_cast<double>(gate_channels(options));
  const auto head = static_cast<double>(options.tiny_attention);
  const auto positions = static_cast<double>(options.seq_len);
  const double dense = 2 * positions * gated;
  const double scores = 2 * positions * head * used_pairs(options);
  const double attention_out = 2 * head * gated;
  return {.channel = 2 * width * hidden + 2 * gated * width + 2 * width * (3 * head) + attention_out,
          .positions = dense * used_pairs(options) + 2 * scores,
          .positions_run = dense * run_pairs(options, run) + 2 * scores,
          .positions_again = scores,
          .gate_channel = attention_out};
}

BlockFlops transformer_block_flops(const ModelOptions& options) {
  const auto width = static_cast<double>(options.d_model);
  const auto hidden = static_cast<double>(options.d_ffn);
  const double mlp_products = options.mlp == "swiglu" ? 3 : 2;
  const double dense_scores = 2 * static_cast<double>(options.seq_len) * width;
  const double scores = dense_scores * used_pairs(options);
  const bool flash = options.dropout == 0 && !has_relative_positions(options);
  // Queries and keys, or values alone, whose mixing is the bias's softmax.
  const bool values_only = options.attention == "positions_only";
  const double projections = values_only ? 2 : 4;
  const double products = values_only ? 1 : 2;
  return {.channel = 2 * width * (projections * width) + mlp_products * 2 * width * hidden,
          .positions = products * scores,
          .positions_run = products * (flash ? scores : dense_scores),
          .positions_again = flash ? scores : 0,
          .gate_channel = 0};
}

BlockFlops mixer_block_flops(const ModelOptions& options) {
  const auto width = static_cast<double>(options.d_model);
  const double positions = 2 * 2 * static_cast<double>(options.d_spatial) * width;
  return {.channel = 2 * 2 * width * static_cast<double>(options.d_ffn),
          .positions = positions,
          .positions_run = positions,
          .positions_again = 0,
          .gate_channel = 0};
}

BlockFlops block_flops(const ModelOptions& options, const SpatialRun& run) {
  switch (family_of(options)) {
    case Family::kGmlp:
      return gmlp_block_flops(options, run);
    case Family::kTransformer:
      return transformer_block_flops(options);
    case Family::kMixer:
      return mixer_block_flops(options);
  }
  return {};
}

}  // namespace

FlopCount count_flops(const ModelOptions& options, std::int64_t vocabulary_size, Recompute recompute,
                      double predicted, SpatialRun spatial) {
  const auto layers = static_cast<double>(options.layers);
  const BlockFlops block = block_flops(options, spatial);
  const double head = 2 * static_cast<double>(options.d_model) * static_cast<double>(vocabulary_size);
  double again = block.positions_again;
  if (recompute == Recompute::kGate) again += block.positions_run + block.gate_channel;
  if (recompute == Recompute::kBlock) again += block.channel + block.positions_run;
  constexpr double kForwardAndBackward = 3;
  return {.useful_per_token =
              kForwardAndBackward * (layers * (block.channel + block.positions) + predicted * head),
          .executed_per_token =
              kForwardAndBackward * (layers * (block.channel + block.positions_run) + head) + layers * again};
}

SpatialRun spatial_run(const ModelOptions& options, const c10::Device& device, c10::ScalarType compute) {
  const bool toeplitz = options.spatial == "toeplitz";
  if (!toeplitz && !runs_fused(options, device.is_cuda(), compute)) return {};
  return {kernels::spatial_rows(device, compute,
                                toeplitz ? kernels::SpatialKind::kToeplitz : kernels::SpatialKind::kFree)};
}

double flop_utilisation(double flops_per_token, double tokens_per_s, double peak_flops) {
  TORCH_CHECK(peak_flops > 0, "a peak of ", peak_flops, " FLOP/s");
  return flops_per_token * tokens_per_s / peak_flops;
}

}  // namespace sluice::model
