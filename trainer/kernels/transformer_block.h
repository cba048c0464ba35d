#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

#include "trainer/kernels/attention.h"
#include "trainer/kernels/dropout.h"
#include "trainer/kernels/linear.h"
#include "trainer/kernels/recompute.h"
#include "trainer/kernels/relative_bias.h"
#include "trainer/kernels/residual_norm.h"
#include "trainer/kernels/sequence_exchange.h"

// A pre-norm Transformer's block (Radford et al. 2019; with RMS norm, SwiGLU and rotary positions
// Touvron et al. 2023) by ATen operators that record autograd. Shape suffixes: B batch, T positions of this
// call, S positions seen, d d_model, H heads, k = d / H channels of a head, f d_ffn.
namespace sluice::kernels {

enum class NormKind {
  kLayer,
  kRms,  ///< x / sqrt(mean(x^2) + eps) * weight (Zhang and Sennrich 2019): no mean is taken off, no bias
};
struct Norm {
  NormKind kind = NormKind::kLayer;
  at::Tensor weight;  ///< [d]
  at::Tensor bias;    ///< [d]; undefined for kRms, constant zeros for a layer norm without bias
  double eps = 1e-5;
};
/// Over the last dimension, statistics in float32 at least: contiguous x of the residual stream's type -> the
/// weight's type; the stream's value is x.
[[nodiscard]] NormedStream normalise(const at::Tensor& x_BTd, const Norm& norm);

enum class AttentionKind {
  kFull,
  kPositionsOnly,  ///< softmax of the relative bias alone (arXiv 2105.08050, table 3: "- attn")
};

/// One block's parameters, all of one dtype and device.
struct TransformerBlock {
  Norm attention_norm;
  Linear qkv;  ///< [3 d, d]: queries, keys, values, each of all heads one after another; kPositionsOnly: [d,
               ///< d], the values
  Linear out;  ///< [d, d]
  Norm mlp_norm;
  Linear expand;    ///< [f, d]; [2 f, d] for kSwiGlu
  Linear contract;  ///< [d, f]
  std::int64_t heads = 1;
  AttentionKind attention = AttentionKind::kFull;
  RotaryTable rotary;  ///< of n positions, or with an exchange those that this rank holds; undefined without
                       ///< rotary positions
  RelativeBias relative;  ///< undefined without relative positions
  Activation activation = Activation::kGelu;
  Mixing mixing = Mixing::kCausal;
  Recompute recompute = Recompute::kNone;  ///< kNone or kBlock
  const SequenceExchange* exchange =
      nullptr;                  ///< with whom this rank shares its sequences; none: it has them whole
  std::int64_t first_site = 0;  ///< of dropout: this and the next kDropoutSites - 1 are the block's
};
/// The softmax of attention, its branch, the branch of the MLP.
inline constexpr std::int64_t kDropoutSites = 3;

/// x + attention, then + mlp, each of the norm of what it is added to; `rates` (whatever its site) drops
/// of both branches and of attention's softmax. x_BTd contiguous, of residual_type;
/// returns [B, T, d] contiguous, of x's type. With an exchange T is this rank's positions, and the softmax
/// cannot drop (sharded_attention).
[[nodiscard]] at::Tensor transformer_block(const at::Tensor& x_BTd, const TransformerBlock& block,
                                           const Dropout& rates = {});

// The block's stages, for those who keep keys and values.

struct Heads {
  at::Tensor q;  ///< [B, H, T, k]; undefined, like k, for kPositionsOnly
  at::Tensor k;
  at::Tensor v;
  at::Tensor x_BTd;  ///< the stream to go on with: by way of the norm, where its gradients meet
};
/// Norm, projection, and rotation by the positions first, first + 1, ...
[[nodiscard]] Heads project_heads(const at::Tensor& x_BTd, const TransformerBlock& block, std::int64_t first);

/// What each position takes of those it sees: [B, H, T, k]. `heads` hold all positions, or the newest one's
/// query and the keys and values of all.
[[nodiscard]] at::Tensor attend(const Heads& heads, const TransformerBlock& block, const Dropout& rates = {});

/// x + out(attended), then + mlp of its norm; attended_BHTk as attend() returns it.
[[nodiscard]] at::Tensor finish_block(const at::Tensor& x_BTd, const at::Tensor& attended_BHTk,
                                      const TransformerBlock& block, const Dropout& rates = {});

}  // namespace sluice::kernels
