#pragma once

#include <ATen/core/Tensor.h>

#include "trainer/kernels/gradient_sum.h"
#include "trainer/kernels/mixing.h"
#include "trainer/kernels/spatial_mixing.h"

// The products of the spatial gating unit (arXiv 2105.08050, section 2.1, equation 1) of a fused block,
// forward and backward: by own kernels where there are any (device_spatial.h), else by ATen's products of row
// blocks, of which a causal one multiplies only what lies below its last row. B batch, T positions, n rows
// and columns of W, h channels. W is [n, n] or, of a Toeplitz matrix (toeplitz.h), [2 n - 1]: then rows are
// made as they are multiplied, and all of W is never in memory (toeplitz_strips.h).
namespace sluice::kernels {

/// Rows of W that one product takes at once on `device` in `type`.
[[nodiscard]] std::int64_t spatial_rows(const c10::Device& device, c10::ScalarType type, SpatialKind kind);

/// W[:T, :T] v, [B, T, h], by ATen's products.
[[nodiscard]] at::Tensor spatial_product(const at::Tensor& gate_BTh, const at::Tensor& weight, Mixing mixing);

/// Whether backward needs the gate's input as well as its result.
enum class Keep { kMixed, kNothing };

struct SpatialGate {
  at::Tensor gated_BTh;  ///< gelu(u) * (W v + b)
  at::Tensor mixed_BTh;  ///< W v + b; undefined for kNothing where nothing needed it
  at::Tensor diagonal;   ///< what spatial_input_gradient wants to have back
};
/// v [B, T, h] contiguous; u before GELU, [B, T, h], rows at any stride; W; b [n]; all of one type.
[[nodiscard]] SpatialGate spatial_gate(const at::Tensor& gate_BTh, const at::Tensor& bypass_BTh,
                                       const at::Tensor& weight, const at::Tensor& bias_n, Mixing mixing,
                                       Keep keep);

/// dv = W[:T, :T]^T dmixed, [B, T, h].
[[nodiscard]] at::Tensor spatial_input_gradient(const at::Tensor& dmixed_BTh, const at::Tensor& weight,
                                                const at::Tensor& diagonal, Mixing mixing);

/// sum[:T, :T] += dmixed v^T over the batch; float32, in W's shape; causal: on and below the diagonal. Where
/// nothing was before, elements that are not computed stay as they are, or become zero.
void add_spatial_weight_gradient(const GradientSum& sum, const at::Tensor& dmixed_BTh,
                                 const at::Tensor& gate_BTh, Mixing mixing);

}  // namespace sluice::kernels
