#include "trainer/kernels/linear.h"

#include <ATen/ops/addmm.h>
#include <ATen/ops/gelu.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/silu.h>
#include <c10/util/Exception.h>

namespace sluice::kernels {

at::Tensor apply(const Linear& linear, const at::Tensor& input_Ti) {
  return linear.bias.defined() ? at::addmm(linear.bias, input_Ti, linear.weight.t())
                               : at::mm(input_Ti, linear.weight.t());
}

at::Tensor activate(const at::Tensor& expanded, Activation activation) {
  switch (activation) {
    case Activation::kGelu:
      return at::gelu(expanded);
    case Activation::kGeluTanh:
      return at::gelu(expanded, "tanh");
    case Activation::kSwiGlu: {
      const auto halves = expanded.split(expanded.size(-1) / 2, -1);
      return at::silu(halves[0]).mul(halves[1]);
    }
  }
  TORCH_CHECK(false, "an activation of value ", static_cast<int>(activation));
}

}  // namespace sluice::kernels
