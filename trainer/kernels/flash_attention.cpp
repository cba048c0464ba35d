#include "trainer/kernels/flash_attention.h"

#include <ATen/ops/_scaled_dot_product_flash_attention.h>
#include <ATen/ops/_scaled_dot_product_flash_attention_backward.h>

#include "trainer/kernels/deterministic.h"

namespace sluice::kernels {
namespace {

constexpr double kNoFlashDropout = 0;

}  // namespace

bool has_flash_attention(const at::Tensor& x, std::int64_t channels) {
  constexpr std::int64_t kMultiple = 8, kMost = 256;
  return x.is_cuda() && x.scalar_type() == at::kBFloat16 && channels % kMultiple == 0 && channels <= kMost;
}

FlashAttention flash_attention(const at::Tensor& q_BHTk, const at::Tensor& k_BHSk, const at::Tensor& v_BHSk,
                               Mixing mixing) {
  auto [out, log_sums, first_q, first_k, most_q, most_k, seed, offset, scores] =
      at::_scaled_dot_product_flash_attention(q_BHTk, k_BHSk, v_BHSk, kNoFlashDropout,
                                              mixing == Mixing::kCausal, /*return_debug_mask=*/false);
  return {out, {log_sums, first_q, first_k, seed, offset}};
}

std::array<at::Tensor, 3> flash_attention_backward(const at::Tensor& dout_BHTk, const at::Tensor& q_BHTk,
                                                   const at::Tensor& k_BHSk, const at::Tensor& v_BHSk,
                                                   const FlashAttention& forward, Mixing mixing) {
  const DeterministicScope scope;  // the blocks of keys add up dq by atomics otherwise
  const auto& kept = forward.kept;
  auto [dq, dk, dv] = at::_scaled_dot_product_flash_attention_backward(
      dout_BHTk, q_BHTk, k_BHSk, v_BHSk, forward.out_BHTk, kept[0], kept[1], kept[2], q_BHTk.size(2),
      k_BHSk.size(2), kNoFlashDropout, mixing == Mixing::kCausal, kept[3], kept[4]);
  return {dq, dk, dv};
}

}  // namespace sluice::kernels
