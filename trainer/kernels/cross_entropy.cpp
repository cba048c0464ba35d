#include "trainer/kernels/cross_entropy.h"

#include <ATen/ops/_log_softmax.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/full.h>
#include <ATen/ops/mul.h>
#include <ATen/ops/nll_loss.h>
#include <ATen/ops/sum.h>
#include <ATen/ops/where.h>
#include <ATen/ops/zeros.h>
#include <c10/core/GradMode.h>
#include <c10/util/Exception.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>
#include <optional>

#include "trainer/kernels/autograd.h"
#include "trainer/kernels/cross_entropy_rows.h"
#include "trainer/kernels/head_gradients.h"
#include "trainer/kernels/products.h"

namespace sluice::kernels {
namespace {

/// The type of logits, losses and held gradients.
at::ScalarType wide(const at::Tensor& x) { return x.scalar_type() == at::kDouble ? at::kDouble : at::kFloat; }

/// cross_entropy_rows by ATen: targets out of range throw.
void rows_by_aten(const at::Tensor& logits_RV, const at::Tensor& targets_R, const at::Tensor& losses_R,
                  const at::Tensor& gradient_RV) {
  const at::Tensor log_softmax = at::_log_softmax(logits_RV, 1, /*half_to_float=*/false);
  losses_R.copy_(at::nll_loss(log_softmax, targets_R, /*weight=*/{}, at::Reduction::None, kIgnoredTarget));
  if (!gradient_RV.defined()) return;
  const at::Tensor counts = targets_R.ne(kIgnoredTarget);
  const at::Tensor column = at::where(counts, targets_R, 0).unsqueeze(1);
  at::Tensor softmax = log_softmax.exp();
  softmax.scatter_add_(1, column, at::full({1, 1}, -1, softmax.options()).expand_as(column));
  if (!counts.all().item<bool>()) softmax.masked_fill_(counts.logical_not().unsqueeze(1), 0);
  gradient_RV.copy_(softmax);
}

struct Sums {
  at::Tensor losses_T;
  at::Tensor x_Td;  // the loss's gradients in the wide type; undefined if not asked for
  at::Tensor weight_Vd;
  at::Tensor bias_V;

  [[nodiscard]] at::Tensor loss() const { return at::sum(losses_T, at::kDouble).to(losses_T.scalar_type()); }
};

enum class Gradients { kNone, kAll };

Sums run(const at::Tensor& x_Td, const at::Tensor& weight_Vd, const at::Tensor& bias_V,
         const at::Tensor& targets_T, std::int64_t chunk_rows, Gradients gradients) {
  const at::TensorOptions options = x_Td.options().requires_grad(false);
  const at::TensorOptions wide_options = options.dtype(wide(x_Td));
  const std::int64_t rows = x_Td.size(0);
  const std::int64_t vocabulary = weight_Vd.size(0);
  const std::int64_t chunk = chunk_rows > 0 ? chunk_rows : rows_of_chunk(vocabulary, wide(x_Td));
  const bool all = gradients == Gradients::kAll;
  Sums sums;
  sums.losses_T = at::empty({rows}, wide_options);
  if (all) {
    sums.x_Td = at::empty(x_Td.sizes(), wide_options);
    sums.weight_Vd = at::empty(weight_Vd.sizes(), wide_options);  // the first chunk writes over it
    if (rows == 0) sums.weight_Vd.zero_();
    if (bias_V.defined()) sums.bias_V = at::zeros(bias_V.sizes(), wide_options);
  }
  for (std::int64_t from = 0; from < rows; from += chunk) {
    const std::int64_t count = std::min(chunk, rows - from);
    const at::Tensor x = x_Td.narrow(0, from, count);
    const at::Tensor targets = targets_T.narrow(0, from, count);
    const at::Tensor logits = at::empty({count, vocabulary}, wide_options);
    linear_into(logits, x, weight_Vd, {});
    if (bias_V.defined()) logits.add_(bias_V);
    at::Tensor gradient;
    if (all) gradient = wide(x) == x.scalar_type() ? logits : at::empty(logits.sizes(), options);
    (x.is_cuda() ? cross_entropy_rows : rows_by_aten)(logits, targets, sums.losses_T.narrow(0, from, count),
                                                      gradient);
    if (!all) continue;
    linear_input_gradient_into(sums.x_Td.narrow(0, from, count), gradient, weight_Vd);
    add_linear_weight_gradient({sums.weight_Vd, from == 0 ? Before::kNothing : Before::kSum}, gradient, x);
    if (bias_V.defined()) sums.bias_V.add_(at::sum(gradient, {0}, /*keepdim=*/false, wide(x)));
  }
  return sums;
}

/// Multiplied in the wide type, rounded once.
at::Tensor scaled(const at::Tensor& held, const at::Tensor& scale, at::ScalarType type) {
  if (held.is_cuda() && type == at::kBFloat16 && held.numel() % 4 == 0) return scaled_bf16(held, scale);
  at::Tensor out = at::empty(held.sizes(), held.options().dtype(type));
  at::mul_out(out, held, scale);
  return out;
}

void add_scaled_to(const GradientSum& into, const at::Tensor& held, const at::Tensor& scale) {
  if (held.is_cuda() && held.numel() % 4 == 0) return add_scaled(into, held, scale);
  begun_sum(into).addcmul_(held, scale);
}

/// Gradients are computed by forward: its saved tensors are the results that backward scales.
class LinearCrossEntropy : public torch::autograd::Function<LinearCrossEntropy> {
 public:
  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& x_Td,
                            const at::Tensor& weight_Vd, const std::optional<at::Tensor>& bias_V,
                            const at::Tensor& targets_T, std::int64_t chunk_rows) {
    Sums sums = run(x_Td, weight_Vd, bias_V.value_or(at::Tensor{}), targets_T, chunk_rows, Gradients::kAll);
    context->save_for_backward({sums.x_Td, sums.weight_Vd, sums.bias_V, weight_Vd});
    context->saved_data["dtype"] = x_Td.scalar_type();
    return sums.loss();
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 const torch::autograd::variable_list& gradients) {
    const auto dtype = context->saved_data["dtype"].toScalarType();
    const torch::autograd::variable_list saved = context->get_saved_variables();
    const at::Tensor& weight_Vd = saved[3];
    torch::autograd::variable_list results(5);
    results[0] = scaled(saved[0], gradients[0], dtype);
    if (saved[2].defined()) results[2] = scaled(saved[2], gradients[0], dtype);
    if (!has_wider_sum(weight_Vd)) {
      results[1] = scaled(saved[1], gradients[0], dtype);
      return results;
    }
    add_scaled_to(taken_sum(weight_Vd), saved[1], gradients[0]);
    return results;
  }
};

void check_shapes(const at::Tensor& x_Td, const at::Tensor& weight_Vd, const at::Tensor& bias_V,
                  const at::Tensor& targets_T) {
  TORCH_CHECK(x_Td.dim() == 2 && weight_Vd.dim() == 2 && x_Td.size(1) == weight_Vd.size(1) &&
                  x_Td.scalar_type() == weight_Vd.scalar_type(),
              "linear_cross_entropy: x ", x_Td.sizes(), " of ", x_Td.scalar_type(), ", weight ",
              weight_Vd.sizes(), " of ", weight_Vd.scalar_type());
  TORCH_CHECK(!bias_V.defined() || (bias_V.dim() == 1 && bias_V.size(0) == weight_Vd.size(0) &&
                                    bias_V.scalar_type() == weight_Vd.scalar_type()),
              "linear_cross_entropy: weight ", weight_Vd.sizes(), ", bias ", bias_V.sizes());
  TORCH_CHECK(targets_T.dim() == 1 && targets_T.size(0) == x_Td.size(0) &&
                  targets_T.scalar_type() == at::kLong && targets_T.is_contiguous(),
              "linear_cross_entropy: x ", x_Td.sizes(), ", targets ", targets_T.sizes(), " of ",
              targets_T.scalar_type());
}

}  // namespace

std::int64_t rows_of_chunk(std::int64_t vocabulary, at::ScalarType type) {
  constexpr std::int64_t kBytes = std::int64_t{256} << 20;
  constexpr std::int64_t kLeast = 1024;
  constexpr std::int64_t kTile = 128;
  const std::int64_t row = vocabulary * static_cast<std::int64_t>(c10::elementSize(type));
  return std::max(kLeast, kBytes / row / kTile * kTile);
}

at::Tensor linear_cross_entropy(const at::Tensor& x_Td, const at::Tensor& weight_Vd, const at::Tensor& bias_V,
                                const at::Tensor& targets_T, std::int64_t chunk_rows) {
  check_shapes(x_Td, weight_Vd, bias_V, targets_T);
  const bool records = c10::GradMode::is_enabled() && (x_Td.requires_grad() || weight_Vd.requires_grad() ||
                                                       (bias_V.defined() && bias_V.requires_grad()));
  if (!records) return run(x_Td, weight_Vd, bias_V, targets_T, chunk_rows, Gradients::kNone).loss();
  const std::optional<at::Tensor> bias = bias_V.defined() ? std::optional(bias_V) : std::nullopt;
  return LinearCrossEntropy::apply(x_Td, weight_Vd, bias, targets_T, chunk_rows);
}

at::Tensor linear_cross_entropy_of_rows(const at::Tensor& x_Td, const at::Tensor& weight_Vd,
                                        const at::Tensor& bias_V, const at::Tensor& targets_T) {
  check_shapes(x_Td, weight_Vd, bias_V, targets_T);
  return run(x_Td, weight_Vd, bias_V, targets_T, 0, Gradients::kNone).losses_T;
}

}  // namespace sluice::kernels
