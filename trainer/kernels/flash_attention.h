#pragma once

#include <ATen/core/Tensor.h>

#include <array>
#include <cstdint>
#include <vector>

#include "trainer/kernels/mixing.h"

// ATen's flash attention kernel (Dao 2023), forward and backward, without autograd. Shape suffixes as in
// attention.h.
namespace sluice::kernels {

/// For heads of so many channels in x's type on its device: bfloat16 on a GPU, a multiple of 8 up to 256.
[[nodiscard]] bool has_flash_attention(const at::Tensor& x, std::int64_t channels);

struct FlashAttention {
  at::Tensor out_BHTk;           ///< in memory as [B, T, H, k]
  std::vector<at::Tensor> kept;  ///< what backward needs beside q, k, v and out; some undefined
};
/// softmax(q k' / sqrt(channels of a head)) v; channels adjacent, other strides any.
[[nodiscard]] FlashAttention flash_attention(const at::Tensor& q_BHTk, const at::Tensor& k_BHSk,
                                             const at::Tensor& v_BHSk, Mixing mixing);

/// Gradients of q, k and v, in memory as [B, T, H, k] and [B, S, H, k]; the same bits on every run.
[[nodiscard]] std::array<at::Tensor, 3> flash_attention_backward(
    const at::Tensor& dout_BHTk, const at::Tensor& q_BHTk, const at::Tensor& k_BHSk, const at::Tensor& v_BHSk,
    const FlashAttention& forward, Mixing mixing);

}  // namespace sluice::kernels
