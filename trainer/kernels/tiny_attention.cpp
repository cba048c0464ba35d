#include "trainer/kernels/tiny_attention.h"

#include <ATen/ops/addmm.h>
#include <ATen/ops/mm.h>

#include "trainer/kernels/attention.h"
#include "trainer/kernels/sharded_attention.h"

namespace sluice::kernels {

at::Tensor project_qkv(const at::Tensor& input_Td, const TinyAttention& attention) {
  return attention.qkv_bias.defined() ? at::addmm(attention.qkv_bias, input_Td, attention.qkv_weight.t())
                                      : at::mm(input_Td, attention.qkv_weight.t());
}

TinyHead tiny_head(const at::Tensor& qkv_T3a, std::int64_t batch) {
  const auto parts = qkv_T3a.view({batch, 1, -1, 3, qkv_T3a.size(1) / 3}).unbind(3);
  return {parts[0], parts[1], parts[2]};
}

at::Tensor attend(const TinyHead& head, Mixing mixing, const TinyAttention& attention,
                  const SequenceExchange* exchange) {
  const at::Tensor attended =
      exchange ? sharded_attention(head.q_B1Ta, head.k_B1Sa, head.v_B1Sa, mixing, *exchange)
               : kernels::attention(head.q_B1Ta, head.k_B1Sa, head.v_B1Sa, mixing);
  return at::addmm(attention.out_bias, attended.reshape({-1, attended.size(3)}), attention.out_weight.t());
}

}  // namespace sluice::kernels
