#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

#include "trainer/kernels/mixing.h"
#include "trainer/kernels/recompute.h"

// The gMLP block (arXiv 2105.08050, figure 1 and section 2) by ATen operators that record autograd: the
// oracle for any fused replacement. Shape suffixes: B batch, T positions of this call (T <= n), d d_model, f
// d_ffn, h = f / 2.
namespace sluice::kernels {

/// The type of the residual stream where parameters and products are of type `compute`: float32 for bfloat16,
/// otherwise the same.
[[nodiscard]] at::ScalarType residual_type(at::ScalarType compute);

/// One block's parameters, all of one dtype and device.
struct GmlpBlock {
  at::Tensor norm_weight;       ///< [d]
  at::Tensor norm_bias;         ///< [d]
  at::Tensor expand_weight;     ///< [f, d]; the first h rows make the bypass half, the others the gate half
  at::Tensor expand_bias;       ///< [f]
  at::Tensor gate_norm_weight;  ///< [h]
  at::Tensor gate_norm_bias;    ///< [h]
  at::Tensor spatial_weight;    ///< [n, n], indexed [position of the output, position of the input]
  at::Tensor spatial_bias;      ///< [n], one scalar for each position
  at::Tensor contract_weight;   ///< [d, h]
  at::Tensor contract_bias;     ///< [d]
  Mixing mixing = Mixing::kCausal;
  double norm_eps = 1e-5;
  Recompute recompute = Recompute::kNone;  ///< by gmlp_block, where it records autograd
};

/// x_BTd -> x + contract(u * (W v + b)) with u, v = the halves of gelu(expand(norm(x))), v normalised, W[:T,
/// :T] and b[:T]. x_BTd contiguous, of residual_type; returns [B, T, d] contiguous, of x's type.
[[nodiscard]] at::Tensor gmlp_block(const at::Tensor& x_BTd, const GmlpBlock& block);

// The block's three stages, for those who need what lies between them (incremental decoding keeps the gate
// inputs).

struct GateHalves {
  at::Tensor bypass_BTh;  ///< u
  at::Tensor gate_BTh;    ///< v, normalised
};

/// Pre-norm, expansion, GELU by the error function, split, and the norm of the gate half; of the parameters'
/// type.
[[nodiscard]] GateHalves gate_halves(const at::Tensor& x_BTd, const GmlpBlock& block);

/// W[:T, :T] v + b[:T] for all positions: [B, T, h].
[[nodiscard]] at::Tensor mix_positions(const at::Tensor& gate_BTh, const GmlpBlock& block);

/// The last row of a causal mix_positions, of one sequence: gate_Th -> [h], from one row of W and one element
/// of b.
[[nodiscard]] at::Tensor mix_last_position(const at::Tensor& gate_Th, const GmlpBlock& block);

/// x + contract(u * mixed): [B, T, d].
[[nodiscard]] at::Tensor contract(const at::Tensor& x_BTd, const at::Tensor& bypass_BTh,
                                  const at::Tensor& mixed_BTh, const GmlpBlock& block);

}  // namespace sluice::kernels
