#include "trainer/kernels/embedding.h"

#include <ATen/ops/embedding.h>
#include <ATen/ops/embedding_dense_backward.h>
#include <c10/core/GradMode.h>
#include <torch/csrc/autograd/custom_function.h>

#include "trainer/kernels/autograd.h"
#include "trainer/kernels/beside.h"
#include "trainer/kernels/deterministic.h"
#include "trainer/kernels/gmlp_block.h"
#include "trainer/kernels/head_gradients.h"

namespace sluice::kernels {
namespace {

at::Tensor dense_gradient(const at::Tensor& gradient_BTd, const at::Tensor& tokens_BT,
                          std::int64_t vocabulary) {
  constexpr std::int64_t kNoPadding = -1;
  const auto dense = [&] {
    return at::embedding_dense_backward(gradient_BTd, tokens_BT, vocabulary, kNoPadding,
                                        /*scale_grad_by_freq=*/false);
  };
  if (!gradient_BTd.is_cuda()) return dense();
  const DeterministicScope scope;  // with few distinct tokens rows are added up by atomics otherwise
  return dense();
}

/// Tokens on a GPU, sorted for backward beside forward.
struct Sorting : torch::CustomClassHolder {
  Sorting(const at::Tensor& tokens_T, std::int64_t vocabulary)
      : tokens(tokens_T, vocabulary), beside(tokens_T.device()) {
    beside.add([this] { tokens.sort(); });
  }

  SortedTokens tokens;
  Beside beside;
};

class Embedding : public torch::autograd::Function<Embedding> {
 public:
  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& weight_Vd,
                            const at::Tensor& tokens, at::ScalarType residual, bool sorts) {
    context->save_for_backward({tokens, weight_Vd});
    if (sorts)
      context->saved_data["sorting"] = c10::IValue::make_capsule(
          c10::make_intrusive<Sorting>(tokens.contiguous().view({-1}), weight_Vd.size(0)));
    return at::embedding(weight_Vd, tokens).to(residual_type(weight_Vd.scalar_type(), residual));
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 const torch::autograd::variable_list& gradients) {
    const torch::autograd::variable_list saved = context->get_saved_variables();
    const at::Tensor& tokens = saved[0];
    const at::Tensor& weight_Vd = saved[1];
    torch::autograd::variable_list results(4);
    if (!has_wider_sum(weight_Vd)) {
      results[0] = dense_gradient(gradients[0], tokens, weight_Vd.size(0)).to(weight_Vd.scalar_type());
      return results;
    }
    const at::Tensor sum_Vd = gradient_sum(weight_Vd);
    const at::Tensor rows_Td = gradients[0].reshape({-1, sum_Vd.size(1)});
    if (context->saved_data.count("sorting") > 0) {
      const auto sorting =
          c10::static_intrusive_pointer_cast<Sorting>(context->saved_data["sorting"].toCapsule());
      sorting->beside.join();
      if (has_embedding_gradient(sum_Vd, rows_Td)) {
        add_embedding_gradient(sum_Vd, sorting->tokens, rows_Td);
        return results;
      }
    }
    sum_Vd.add_(dense_gradient(gradients[0], tokens, weight_Vd.size(0)));
    return results;
  }
};

}  // namespace

at::Tensor embedding(const at::Tensor& weight_Vd, const at::Tensor& tokens, at::ScalarType residual) {
  const bool sorts = tokens.is_cuda() && c10::GradMode::is_enabled() && has_wider_sum(weight_Vd);
  return Embedding::apply(weight_Vd, tokens, residual, sorts);
}

}  // namespace sluice::kernels
