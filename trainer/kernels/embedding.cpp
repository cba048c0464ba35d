#include "trainer/kernels/embedding.h"

#include <ATen/ops/embedding.h>
#include <ATen/ops/embedding_dense_backward.h>
#include <torch/csrc/autograd/custom_function.h>

#include "trainer/kernels/deterministic.h"
#include "trainer/kernels/gmlp_block.h"

namespace sluice::kernels {
namespace {

class Embedding : public torch::autograd::Function<Embedding> {
 public:
  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& weight_Vd,
                            const at::Tensor& tokens, at::ScalarType residual) {
    context->save_for_backward({tokens});
    context->saved_data["vocabulary"] = weight_Vd.size(0);
    context->saved_data["dtype"] = weight_Vd.scalar_type();
    return at::embedding(weight_Vd, tokens).to(residual_type(weight_Vd.scalar_type(), residual));
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 const torch::autograd::variable_list& gradients) {
    constexpr std::int64_t kNoPadding = -1;
    const auto sum = [&] {
      return at::embedding_dense_backward(gradients[0], context->get_saved_variables()[0],
                                          context->saved_data["vocabulary"].toInt(), kNoPadding,
                                          /*scale_grad_by_freq=*/false)
          .to(context->saved_data["dtype"].toScalarType());
    };
    if (!gradients[0].is_cuda()) return {sum(), at::Tensor{}, at::Tensor{}};
    const DeterministicScope scope;  // with few distinct tokens rows are added up by atomics otherwise
    return {sum(), at::Tensor{}, at::Tensor{}};
  }
};

}  // namespace

at::Tensor embedding(const at::Tensor& weight_Vd, const at::Tensor& tokens, at::ScalarType residual) {
  return Embedding::apply(weight_Vd, tokens, residual);
}

}  // namespace sluice::kernels
