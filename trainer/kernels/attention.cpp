#include "trainer/kernels/attention.h"

#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/softmax.h>
#include <c10/util/Exception.h>
#include <torch/csrc/autograd/custom_function.h>

#include <cmath>
#include <vector>

#include "trainer/kernels/flash_attention.h"

namespace sluice::kernels {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

/// ATen's own derivative of the operator, but for the scope around it.
class FlashFunction : public torch::autograd::Function<FlashFunction> {
 public:
  static at::Tensor forward(AutogradContext* context, const at::Tensor& q, const at::Tensor& k,
                            const at::Tensor& v, Mixing mixing) {
    FlashAttention result = flash_attention(q, k, v, mixing);
    variable_list saved = {q, k, v, result.out_BHTk};
    saved.insert(saved.end(), result.kept.begin(), result.kept.end());
    context->save_for_backward(saved);
    context->saved_data["causal"] = mixing == Mixing::kCausal;
    return result.out_BHTk;
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const variable_list saved = context->get_saved_variables();
    const FlashAttention result{saved[3], {saved.begin() + 4, saved.end()}};
    const Mixing mixing = context->saved_data["causal"].toBool() ? Mixing::kCausal : Mixing::kFull;
    const auto [dq, dk, dv] =
        flash_attention_backward(gradients[0], saved[0], saved[1], saved[2], result, mixing);
    return {dq, dk, dv, at::Tensor()};
  }
};

at::Tensor turned(const at::Tensor& x_BTHk, const at::Tensor& cos_Tc, const at::Tensor& sin_Tc) {
  const at::Tensor cos = cos_Tc.unsqueeze(1);
  const at::Tensor sin = sin_Tc.unsqueeze(1);
  const auto halves = x_BTHk.split(cos.size(2), 3);
  const at::Tensor& first = halves[0];
  const at::Tensor& second = halves[1];
  return at::cat({first.mul(cos).sub_(second.mul(sin)), second.mul(cos).add_(first.mul(sin))}, 3)
      .to(x_BTHk.scalar_type());
}

/// The transpose of a rotation is the one by the opposite angle.
class Rotate : public torch::autograd::Function<Rotate> {
 public:
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x, const at::Tensor& cos,
                            const at::Tensor& sin) {
    context->save_for_backward({cos, sin});
    return turned(x, cos, sin);
  }
  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const variable_list saved = context->get_saved_variables();
    return {turned(gradients[0], saved[0], saved[1].neg()), at::Tensor(), at::Tensor()};
  }
};

/// scores [B or 1, H, T, S].
at::Tensor mix_by_softmax(at::Tensor scores, const at::Tensor& v_BHSk, Mixing mixing,
                          const Dropout& weights_dropout) {
  const at::ScalarType type = v_BHSk.scalar_type();
  if (mixing == Mixing::kCausal) {
    const at::Tensor later =
        at::ones({scores.size(-2), scores.size(-1)}, scores.options().dtype(at::kBool)).triu_(1);
    scores = scores.masked_fill(later, -INFINITY);
  }
  const at::Tensor weights = at::softmax(scores, -1, type == at::kDouble ? at::kDouble : at::kFloat).to(type);
  return at::matmul(dropout(weights, weights_dropout), v_BHSk);
}

}  // namespace

at::Tensor attention(const at::Tensor& q_BHTk, const at::Tensor& k_BHSk, const at::Tensor& v_BHSk,
                     Mixing mixing, const Dropout& weights_dropout, const at::Tensor& bias_HTS) {
  const bool causal = mixing == Mixing::kCausal;
  TORCH_CHECK(!causal || q_BHTk.size(2) == k_BHSk.size(2), "causal attention of ", q_BHTk.size(2),
              " queries over ", k_BHSk.size(2), " keys");
  if (has_flash_attention(q_BHTk, q_BHTk.size(3)) && !weights_dropout.active() && !bias_HTS.defined())
    return FlashFunction::apply(q_BHTk, k_BHSk, v_BHSk, mixing);
  const double scale = 1.0 / std::sqrt(static_cast<double>(q_BHTk.size(3)));
  const at::Tensor scores = at::matmul(q_BHTk.mul(scale), k_BHSk.transpose(2, 3));
  return mix_by_softmax(bias_HTS.defined() ? scores.add(bias_HTS) : scores, v_BHSk, mixing, weights_dropout);
}

at::Tensor attention_by_position(const at::Tensor& bias_HTS, const at::Tensor& v_BHSk, Mixing mixing,
                                 const Dropout& weights_dropout) {
  if (!weights_dropout.active())
    return mix_by_softmax(bias_HTS.unsqueeze(0), v_BHSk, mixing, weights_dropout);
  const std::vector<std::int64_t> each{v_BHSk.size(0), bias_HTS.size(0), bias_HTS.size(1), bias_HTS.size(2)};
  return mix_by_softmax(bias_HTS.expand(each), v_BHSk, mixing, weights_dropout);
}

RotaryTable rotary_table(std::int64_t positions, std::int64_t channels, double base,
                         const at::TensorOptions& options) {
  TORCH_CHECK(channels % 2 == 0, "rotary positions turn pairs of channels, a head has ", channels);
  const std::int64_t pairs = channels / 2;
  const at::Tensor cos = at::empty({positions, pairs}, at::TensorOptions().dtype(at::kDouble));
  const at::Tensor sin = at::empty_like(cos);
  for (std::int64_t t = 0; t < positions; ++t) {
    for (std::int64_t c = 0; c < pairs; ++c) {
      const double frequency = std::pow(base, -2.0 * static_cast<double>(c) / static_cast<double>(channels));
      const double angle = static_cast<double>(t) * frequency;
      cos.mutable_data_ptr<double>()[t * pairs + c] = std::cos(angle);
      sin.mutable_data_ptr<double>()[t * pairs + c] = std::sin(angle);
    }
  }
  return {cos.to(options), sin.to(options)};
}

at::Tensor rotate(const at::Tensor& x_BTHk, const RotaryTable& table) {
  return Rotate::apply(x_BTHk, table.cos, table.sin);
}

}  // namespace sluice::kernels
