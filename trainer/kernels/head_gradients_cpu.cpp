#include <c10/util/Exception.h>

#include "trainer/kernels/head_gradients.h"

namespace sluice::kernels {
namespace {

[[noreturn]] void refuse() { TORCH_CHECK(false, "head_gradients.h is for a GPU: no CUDA sources here"); }

}  // namespace

SortedTokens::SortedTokens(const at::Tensor& /*tokens_T*/, std::int64_t /*vocabulary*/) { refuse(); }
void SortedTokens::sort() const { refuse(); }
void add_embedding_gradient(const at::Tensor& /*sum_Vd*/, const SortedTokens& /*sorted*/,
                            const at::Tensor& /*gradient_Td*/) {
  refuse();
}
bool has_embedding_gradient(const at::Tensor& /*sum_Vd*/, const at::Tensor& /*gradient_Td*/) { return false; }
void add_scaled(const GradientSum& /*into*/, const at::Tensor& /*values*/, const at::Tensor& /*scale*/) {
  refuse();
}
at::Tensor scaled_bf16(const at::Tensor& /*values*/, const at::Tensor& /*scale*/) { refuse(); }

}  // namespace sluice::kernels
