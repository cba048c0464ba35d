#pragma once

#include <ATen/core/Tensor.h>

#include "trainer/kernels/gmlp_block.h"
#include "trainer/kernels/residual_norm.h"

// The gMLP block as one autograd function, on a GPU or, in float32, on a CPU: the products of products.h and
// spatial.h, the passes of fused_passes.h between them, an explicit backward. gmlp_block (gmlp_block.h) is
// its oracle.
namespace sluice::kernels {

/// Whether the block is the paper's own (is_plain), its Toeplitz W is multiplied by this rank alone, there
/// are passes for x [B, T, d] and the block's types and widths, and the parameters' gradients add up in
/// memory of their own (autograd.h).
[[nodiscard]] bool has_fused_block(const at::Tensor& x_BTd, const GmlpBlock& block);

/// The stream after the block, of own positions where the block has an exchange: then backward exchanges
/// again what others sent. Backward keeps, for each position, the stream's value in its type and in the
/// parameters' type: its norm, both halves before GELU, and, of d_ffn / 2 elements each, the gate's norm,
/// what it was mixed to, and the product of both halves; `recompute` says which of these it computes again
/// instead.
[[nodiscard]] ResidualStream fused_block(const ResidualStream& in, const GmlpBlock& block);

}  // namespace sluice::kernels
