#include "trainer/model/activations.h"

#include <algorithm>

#include "trainer/kernels/cross_entropy.h"
#include "trainer/kernels/fused_passes.h"
#include "trainer/kernels/gmlp_block.h"
#include "trainer/kernels/host_passes.h"
#include "trainer/kernels/spatial.h"

namespace sluice::model {
namespace {

using kernels::ExchangeMode;
using kernels::Recompute;

std::int64_t bytes_of(at::ScalarType type) { return static_cast<std::int64_t>(c10::elementSize(type)); }

/// Bytes of an element of each kind, and whether attention's scores are ever stored.
struct Types {
  explicit Types(const ActivationPlan& plan)
      : compute(bytes_of(plan.compute)),
        stream(bytes_of(kernels::residual_type(plan.compute, plan.residual))),
        wide(std::max<std::int64_t>(compute, 4)),
        statistics(2 * wide) {}

  std::int64_t compute;
  std::int64_t stream;      ///< of the residual stream
  std::int64_t wide;        ///< of softmax, logits, and what the loss holds
  std::int64_t statistics;  ///< a norm's mean and deviation of one row
};

/// What a block saves, in bytes for each token.
struct BlockBytes {
  std::int64_t input = 0;      ///< kept whatever is computed again
  std::int64_t before = 0;     ///< up to the gate
  std::int64_t gate = 0;       ///< computed again by Recompute::kGate
  std::int64_t after = 0;      ///< the gate's result, where it is saved
  std::int64_t layer = 0;      ///< bytes of a layer, whatever the batch
  std::int64_t gradients = 0;  ///< at once in the block's backward

  [[nodiscard]] std::int64_t kept(std::int64_t tokens, Recompute recompute) const {
    if (recompute == Recompute::kBlock) return tokens * input;
    if (recompute == Recompute::kGate) return tokens * (input + before + after);
    return tokens * (input + before + gate + after) + layer;
  }
};

/// Softmax and, where they are of another type or dropped from, the weights that multiply the values.
std::int64_t softmax_bytes(const ModelOptions& o, const Types& type, std::int64_t heads) {
  const bool twice = type.compute != type.wide || (family_of(o) == Family::kTransformer && o.dropout > 0);
  return heads * o.seq_len * (type.wide + (twice ? type.compute : 0));
}

/// Whether sharing ranks gather keys and values: no rank has all positions of some heads.
bool gathers_keys(const ModelOptions& o, const ActivationPlan& plan) {
  return plan.share && (family_of(o) == Family::kGmlp || plan.share->mode != ExchangeMode::kAllToAll ||
                        o.heads % plan.share->ranks != 0);
}

bool runs_flash(const ModelOptions& o, const ActivationPlan& plan, std::int64_t channels) {
  const bool transformer = family_of(o) == Family::kTransformer;
  return plan.on_gpu && !gathers_keys(o, plan) && plan.compute == at::kBFloat16 && channels % 8 == 0 &&
         channels <= 256 && !(transformer && (o.dropout > 0 || has_relative_positions(o)));
}

/// kernels/fused_block.cpp: sum, normed, expanded; gate, mixed.
BlockBytes fused_block(const ModelOptions& o, const Types& type) {
  const std::int64_t gate = gate_channels(o) * type.compute;
  return {.input = o.d_model * type.stream + type.statistics,
          .before = (o.d_model + o.d_ffn) * type.compute,
          .gate = type.statistics + 2 * gate,
          .gradients = 2 * o.d_model * type.stream + o.d_ffn * type.compute + 3 * gate};
}

/// Of tensors of the gate's channels: GELU's results, the norm's, and what the product of both reads.
std::int64_t gate_tensors(const ModelOptions& o) {
  std::int64_t tensors = o.gate_norm ? 2 : 1;
  if (o.gate == "split") tensors += 2;
  if (o.gate == "multiplicative") tensors += 1;
  if (o.gate_activation == "gelu" || (o.gate_activation != "none" && o.gate == "additive")) tensors += 1;
  return tensors;
}

/// Elements of W that a layer makes anew: masked, which ranks that share sequences do block by block, or, of
/// some of theirs, of a Toeplitz matrix's distances.
std::int64_t made_weights(const ModelOptions& o, const ActivationPlan& plan) {
  const bool toeplitz = o.spatial == "toeplitz";
  const std::int64_t row = o.spatial_heads * o.seq_len;
  if (!plan.share) return !toeplitz && o.causal ? row * o.seq_len : 0;
  if (!toeplitz || plan.share->mode == ExchangeMode::kAllToAll) return 0;
  return row * plan.share->positions;
}

/// `bytes` of each position of the whole sequence, as bytes for each that the rank holds.
std::int64_t gathered(std::int64_t bytes, const ModelOptions& o, const ActivationPlan& plan) {
  return bytes * o.seq_len / plan.share->positions;
}

/// kernels/gmlp_block.cpp by ATen's operators.
BlockBytes gmlp_block(const ModelOptions& o, const ActivationPlan& plan, const Types& type) {
  const std::int64_t gate = gate_channels(o) * type.compute;
  const std::int64_t head = o.tiny_attention * type.compute;
  BlockBytes bytes{.input = o.d_model * type.stream,
                   .before = type.statistics + (o.d_model + o.d_ffn) * type.compute + 3 * head,
                   .gate = (o.gate_norm ? type.statistics : 0) + gate_tensors(o) * gate,
                   .after = gate,
                   .gradients = o.d_model * type.stream + 2 * gate};
  bytes.layer = made_weights(o, plan) * type.compute;
  if (head == 0) return bytes;
  if (plan.share) bytes.gate += gathered(2 * head, o, plan) - 3 * head;  // in place of what was projected
  if (runs_flash(o, plan, o.tiny_attention)) {
    bytes.gate += head + type.wide;
  } else {
    bytes.gate += 2 * head + softmax_bytes(o, type, 1);
    bytes.gradients = std::max(bytes.gradients, o.d_model * type.stream + 2 * o.seq_len * type.wide);
  }
  return bytes;
}

/// Of attention: queries, keys and values (those of dense products lie each by itself), the softmax, and the
/// result.
void add_attention(const ModelOptions& o, const ActivationPlan& plan, const Types& type, BlockBytes& bytes) {
  const std::int64_t width = o.d_model * type.compute;
  const bool values_only = o.attention == "positions_only";
  bytes.gate += (values_only ? 1 : 3) * width + width;
  if (gathers_keys(o, plan)) {  // in place of those of the rank
    const std::int64_t keys_and_values = (values_only ? 1 : 2) * width;
    bytes.gate += gathered(keys_and_values, o, plan) - keys_and_values;
  }
  if (runs_flash(o, plan, o.d_model / o.heads)) {
    bytes.gate += o.heads * type.wide + (o.positions == "rotary" ? 2 * width : 0);
    return;
  }
  bytes.gradients =
      std::max(bytes.gradients, 2 * (o.d_model * type.stream + o.heads * o.seq_len * type.wide));
  if (values_only && o.dropout == 0) {  // one softmax for all sequences, repeated for the product
    const std::int64_t rows = plan.share ? plan.share->positions : o.seq_len;  // or as many of all rows
    bytes.layer += o.heads * rows * o.seq_len * type.wide;
    bytes.gate += o.heads * o.seq_len * type.compute;
  } else {
    bytes.gate += softmax_bytes(o, type, o.heads);
  }
}

/// kernels/transformer_block.cpp.
BlockBytes transformer_block(const ModelOptions& o, const ActivationPlan& plan, const Types& type) {
  const std::int64_t width = o.d_model * type.compute;
  const std::int64_t hidden = o.d_ffn * type.compute;
  const bool gated = o.mlp == "swiglu";
  const std::int64_t expanded = gated ? 3 * hidden : hidden;  // and silu's result
  BlockBytes bytes{.input = o.d_model * type.stream,
                   .gate = o.d_model * type.stream + 2 * type.statistics + 2 * width + expanded + hidden,
                   .gradients = 2 * o.d_model * type.stream + std::max((gated ? 2 : 1) * hidden, 4 * width)};
  add_attention(o, plan, type, bytes);
  return bytes;
}

/// kernels/mixer_block.cpp.
BlockBytes mixer_block(const ModelOptions& o, const Types& type) {
  const std::int64_t width = o.d_model * type.compute;
  const std::int64_t over_positions = 2 * o.d_spatial * width / o.seq_len;
  const std::int64_t over_channels = 2 * o.d_ffn * type.compute;
  return {.input = o.d_model * type.stream,
          .gate = o.d_model * type.stream + 2 * type.statistics + 2 * width + over_positions + over_channels,
          .gradients = 2 * o.d_model * type.stream + std::max(over_positions, over_channels) / 2};
}

BlockBytes block_bytes(const ModelOptions& o, const ActivationPlan& plan, const Types& type) {
  switch (family_of(o)) {
    case Family::kGmlp:
      return runs_fused(o, plan.on_gpu, plan.compute) && !(plan.share && o.spatial == "toeplitz")
                 ? fused_block(o, type)
                 : gmlp_block(o, plan, type);
    case Family::kTransformer:
      return transformer_block(o, plan, type);
    case Family::kMixer:
      return mixer_block(o, type);
  }
  return {};
}

/// A chunk of logits as the loss works on it: on a GPU in place, on the CPU with their log-softmax and
/// softmax beside them.
std::int64_t logits_bytes(std::int64_t tokens, std::int64_t vocabulary, const ActivationPlan& plan,
                          const Types& type) {
  const at::ScalarType wide = plan.compute == at::kDouble ? at::kDouble : at::kFloat;
  const std::int64_t rows = std::min(tokens, kernels::rows_of_chunk(vocabulary, wide));
  const std::int64_t gradient = type.compute == type.wide ? 0 : type.compute;
  return rows * vocabulary * ((plan.on_gpu ? 1 : 3) * type.wide + gradient);
}

/// What a block's backward holds of what it exchanges for each position that the rank has
/// (kernels/sharded_mixing.cpp, ring_mixing.cpp, sharded_attention.cpp), in bytes.
std::int64_t exchanged_bytes(const ModelOptions& o, const ActivationPlan& plan, const Types& type) {
  if (!plan.share) return 0;
  const std::int64_t width = (family_of(o) == Family::kGmlp ? gate_channels(o) : o.d_model) * type.compute;
  const bool attends = family_of(o) == Family::kTransformer;
  if (gathers_keys(o, plan) && attends) return gathered(3 * 2 * width, o, plan);
  switch (plan.share->mode) {
    case ExchangeMode::kAllToAll:  // the gradient of own channels, its and the gate's parts as they come
      return (attends ? 3 * 3 : 5) * width;
    case ExchangeMode::kRowShard:  // the gathered gate, its gradient, and that in parts
      return gathered(3 * width, o, plan);
    case ExchangeMode::kRing:  // a block that is summed, one that leaves and one that comes
      return 3 * width;
  }
  return 0;
}

/// Of a Toeplitz W that is multiplied some rows at a time (kernels/toeplitz_strips.h): what backward has of
/// their gradient, by sequence where those are multiplied together, its sum, and that of all such rows.
std::int64_t strip_bytes(const ModelOptions& o, const ActivationPlan& plan, const Types& type) {
  const bool by_strips = !plan.share || plan.share->mode == ExchangeMode::kAllToAll;
  if (family_of(o) != Family::kGmlp || o.spatial != "toeplitz" || !by_strips) return 0;
  const std::int64_t rows = kernels::spatial_rows(plan.on_gpu ? at::kCUDA : at::kCPU, plan.compute,
                                                  kernels::SpatialKind::kToeplitz);
  const std::int64_t of_sequences = plan.on_gpu ? plan.batch * type.compute : 0;
  return std::min(rows, o.seq_len) * o.seq_len * (2 * type.wide + of_sequences);
}

}  // namespace

bool runs_fused(const ModelOptions& o, bool on_gpu, at::ScalarType compute) {
  const bool has_passes =
      on_gpu ? kernels::is_fused_width(o.d_model) && kernels::is_fused_width(gate_channels(o))
             : compute == at::kFloat && kernels::host::has_passes();
  return has_passes && has_plain_blocks(o);
}

ActivationBytes count_activations(const ModelOptions& options, std::int64_t vocabulary_size,
                                  const ActivationPlan& plan) {
  const Types type(plan);
  const std::int64_t tokens = plan.batch * (plan.share ? plan.share->positions : options.seq_len);
  const std::int64_t stream = tokens * options.d_model;
  const std::int64_t head = vocabulary_size * options.d_model;
  const BlockBytes block = block_bytes(options, plan, type);
  const std::int64_t of_block = block.kept(tokens, plan.recompute);
  ActivationBytes bytes;
  bytes.kept = options.layers * of_block + stream * type.stream + tokens * type.statistics;
  bytes.of_loss = (stream + head) * type.wide;
  const std::int64_t loss_forward =
      bytes.of_loss + stream * type.compute + logits_bytes(tokens, vocabulary_size, plan, type);
  const std::int64_t loss_backward = bytes.of_loss + (stream + head) * type.compute;
  // The embedding's gradient waits for its other half where the head shares its weights.
  const std::int64_t block_backward = (options.tied ? head * type.compute : 0) +
                                      tokens * (block.gradients + exchanged_bytes(options, plan, type)) +
                                      strip_bytes(options, plan, type) +
                                      block.kept(tokens, Recompute::kNone) - of_block;
  bytes.passing = std::max({loss_forward, loss_backward, block_backward});
  return bytes;
}

}  // namespace sluice::model
