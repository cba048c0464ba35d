#pragma once

#include <ATen/core/Tensor.h>

#include "trainer/kernels/residual_norm.h"
#include "trainer/kernels/transformer_block.h"

// GPT-2's block on a GPU as one autograd function: the products of products.h, the passes of fused_passes.h
// and mlp_passes.h between them, ATen's flash attention, an explicit backward. transformer_block
// (transformer_block.h) is its oracle.
namespace sluice::kernels {

/// Whether the block is GPT-2's (layer norms and biases, a GELU of either form, attention without rotary or
/// relative positions) of bfloat16 on a GPU, whole sequences lie on this rank, there are passes for x
/// [B, T, d] and the block's widths, and the parameters' gradients add up in memory of their own
/// (autograd.h).
[[nodiscard]] bool has_fused_transformer(const at::Tensor& x_BTd, const TransformerBlock& block);

/// The stream after the block. Backward keeps, for each position, the stream's values before attention and
/// before the MLP in their type and in the parameters' type: both norms, queries, keys and values, what
/// attention gives, and the MLP's hidden layer before and after GELU; with Recompute::kBlock the first of
/// these alone.
[[nodiscard]] ResidualStream fused_transformer(const ResidualStream& in, const TransformerBlock& block);

}  // namespace sluice::kernels
