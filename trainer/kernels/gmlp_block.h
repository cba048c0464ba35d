#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

#include "trainer/kernels/dropout.h"
#include "trainer/kernels/fp8_products.h"
#include "trainer/kernels/gelu.h"
#include "trainer/kernels/mixing.h"
#include "trainer/kernels/recompute.h"
#include "trainer/kernels/sequence_exchange.h"
#include "trainer/kernels/spatial_mixing.h"
#include "trainer/kernels/tiny_attention.h"

// The gMLP block (arXiv 2105.08050, figure 1 and section 2) and its variants by ATen operators that record
// autograd: the oracle for any fused replacement. Shape suffixes: B batch, T positions of this call (T <= n),
// d d_model, f d_ffn, c channels of the gate: f / 2 if it is split, else f.
namespace sluice::kernels {

/// The type of the residual stream where parameters and products are of type `compute`: float32 for bfloat16,
/// otherwise the same.
[[nodiscard]] at::ScalarType residual_type(at::ScalarType compute);
/// Likewise, but `asked` for bfloat16.
[[nodiscard]] at::ScalarType residual_type(at::ScalarType compute, at::ScalarType asked);

/// How z = gelu(expand(..)) meets g = activation(W norm(.) + b + attention), arXiv 2105.08050, table 3.
enum class GateKind {
  kSplit,           ///< u * g(v), u and v the halves of z (equation 4)
  kMultiplicative,  ///< z * g(z) (equation 3)
  kAdditive,        ///< z + g(z)
  kLinear,          ///< g(z)
};
enum class GateActivation { kNone, kTanh, kSigmoid, kGelu, kRelu };

/// How a block differs from the paper's own.
struct GmlpVariant {
  GateKind gate = GateKind::kSplit;
  SpatialKind spatial = SpatialKind::kFree;
  std::int64_t spatial_heads = 1;
  GateActivation gate_activation = GateActivation::kNone;
  GeluForm gelu = GeluForm::kExact;  ///< of the gate's activation, too
  std::int64_t token_shift = 0;      ///< reach of shift_tokens (token_shift.h) on the normalised input
  TinyAttention attention = {};
};

/// One block's parameters, all of one dtype and device.
struct GmlpBlock {
  at::Tensor norm_weight;    ///< [d]
  at::Tensor norm_bias;      ///< [d]
  at::Tensor expand_weight;  ///< [f, d]; if split the first c rows make the bypass half, the others the gate
  at::Tensor expand_bias;    ///< [f]
  at::Tensor gate_norm_weight;  ///< [c]; undefined: the gate is not normalised
  at::Tensor gate_norm_bias;    ///< [c]
  at::Tensor spatial_weight;    ///< as SpatialMix
  at::Tensor spatial_bias;      ///< as SpatialMix
  at::Tensor contract_weight;   ///< [d, c]
  at::Tensor contract_bias;     ///< [d]
  Mixing mixing = Mixing::kCausal;
  double norm_eps = 1e-5;
  Recompute recompute = Recompute::kNone;             ///< by gmlp_block, where it records autograd
  ChannelProducts products = ChannelProducts::kFull;  ///< by fused_block, forward and input gradients
  bool leaves_matrices = false;  ///< by fused_block: their gradients wait for the end of backward
  GmlpVariant variant = {};
  double skip_rate = 0;  ///< stochastic depth: share of samples whose branch is left out in training
  const SequenceExchange* exchange =
      nullptr;                  ///< with whom this rank shares its sequences; none: it has them whole
  std::int64_t first_site = 0;  ///< of draws: this and the next kGmlpSites - 1 are the block's
};
/// Dropout of the branch, and whether a sample skips it.
inline constexpr std::int64_t kGmlpSites = 2;

/// Nothing of GmlpVariant is asked for but a Toeplitz W.
[[nodiscard]] bool is_plain(const GmlpBlock& block);
/// Whether forward with these rates draws anything.
[[nodiscard]] bool draws(const GmlpBlock& block, const Dropout& rates);

/// x_BTd -> x + contract(gate(u, W v + b)), with u and v by GateKind from gelu(expand(norm(x))), v
/// normalised, W[:T, :T] and b[:T]. x_BTd contiguous, of residual_type; returns [B, T, d] contiguous, of x's
/// type. `rates` (whatever its site) drops of the branch, and its seed and samples decide who skips it: what
/// is kept is divided by the share that is kept. With an exchange T is this rank's positions; no shift is
/// possible then.
[[nodiscard]] at::Tensor gmlp_block(const at::Tensor& x_BTd, const GmlpBlock& block,
                                    const Dropout& rates = {});

// The block's stages, for those who need what lies between them (incremental decoding keeps gate inputs, keys
// and values, and shifted rows).

/// The norm of x, before any shift: [B, T, d], of the parameters' type.
[[nodiscard]] at::Tensor block_input(const at::Tensor& x_BTd, const GmlpBlock& block);

struct GateInputs {
  at::Tensor bypass_BTc;  ///< u; undefined for kLinear
  at::Tensor gate_BTc;    ///< v, normalised
  at::Tensor qkv_T3a;     ///< of attention; undefined without
};
/// Products of the shifted input, GELU, split, and the norm of the gate.
[[nodiscard]] GateInputs gate_inputs(const at::Tensor& input_BTd, const GmlpBlock& block);

[[nodiscard]] SpatialMix spatial_mix(const GmlpBlock& block);

/// x + contract(gate(u, mixed)): [B, T, d]; mixed [B, T, c] with b and attention added.
[[nodiscard]] at::Tensor contract(const at::Tensor& x_BTd, const at::Tensor& bypass_BTc,
                                  const at::Tensor& mixed_BTc, const GmlpBlock& block);

}  // namespace sluice::kernels
