#include "trainer/kernels/dropout.h"

#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>
#include <c10/util/Exception.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "trainer/kernels/dropout_kernel.h"
#include "trainer/kernels/philox.h"

namespace sluice::kernels {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

/// A draw of 32 bits below this drops its element.
std::uint32_t threshold_of(double rate) {
  const double bound = std::ldexp(rate, 32);
  return static_cast<std::uint32_t>(
      std::min(std::llround(bound), static_cast<long long>(std::numeric_limits<std::uint32_t>::max())));
}

template <typename Value, typename Wide>
void drop_on_host(const at::Tensor& x, const at::Tensor& y, const Dropout& dropout, Wide scale) {
  constexpr std::int64_t kDraws = 4, kGroupsOfTask = 4096;
  const std::uint32_t threshold = threshold_of(dropout.rate);
  const std::int64_t elements = x.numel() / dropout.samples_B.numel();
  const std::int64_t groups = (elements + kDraws - 1) / kDraws;
  const auto* const in = x.const_data_ptr<Value>();
  auto* const out = y.mutable_data_ptr<Value>();
  const auto* const samples = dropout.samples_B.const_data_ptr<std::int64_t>();
  at::parallel_for(
      0, dropout.samples_B.numel() * groups, kGroupsOfTask, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t index = begin; index < end; ++index) {
          const std::int64_t part = index / groups;
          const std::int64_t group = index % groups;
          const PhiloxWords words =
              draws_of(dropout.seed, static_cast<std::uint32_t>(dropout.site),
                       static_cast<std::uint64_t>(samples[part]), static_cast<std::uint32_t>(group));
          const std::int64_t last = std::min(kDraws, elements - group * kDraws);
          const std::int64_t first = part * elements + group * kDraws;
          for (std::int64_t i = 0; i < last; ++i) {
            const bool keeps = words.at[i] >= threshold;
            out[first + i] = keeps ? static_cast<Value>(static_cast<Wide>(in[first + i]) * scale) : Value(0);
          }
        }
      });
}

at::Tensor dropped(const at::Tensor& x, const Dropout& dropout) {
  TORCH_CHECK(
      x.is_contiguous() && dropout.samples_B.numel() > 0 && x.numel() % dropout.samples_B.numel() == 0,
      "dropout of x ", x.sizes(), " of ", dropout.samples_B.numel(), " samples");
  constexpr std::int64_t kMostElements = std::int64_t{1} << 33;  // draws are counted by 32 bits for four
  TORCH_CHECK(x.numel() / dropout.samples_B.numel() <= kMostElements, "dropout of x ", x.sizes());
  at::Tensor y = at::empty(x.sizes(), x.options().requires_grad(false));
  const double scale = 1.0 / (1.0 - dropout.rate);
  if (x.is_cuda()) {
    dropout_kernel(x, y, dropout.samples_B, dropout.seed, static_cast<std::uint32_t>(dropout.site),
                   threshold_of(dropout.rate), scale);
  } else if (x.scalar_type() == at::kDouble) {
    drop_on_host<double, double>(x, y, dropout, scale);
  } else if (x.scalar_type() == at::kFloat) {
    drop_on_host<float, float>(x, y, dropout, static_cast<float>(scale));
  } else {
    drop_on_host<at::BFloat16, float>(x, y, dropout, static_cast<float>(scale));
  }
  return y;
}

class Drop : public torch::autograd::Function<Drop> {
 public:
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x, const Dropout& dropout) {
    context->save_for_backward({dropout.samples_B});
    context->saved_data["rate"] = dropout.rate;
    context->saved_data["seed"] = static_cast<std::int64_t>(dropout.seed);
    context->saved_data["site"] = dropout.site;
    return dropped(x, dropout);
  }
  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const Dropout dropout{.rate = context->saved_data["rate"].toDouble(),
                          .seed = static_cast<std::uint64_t>(context->saved_data["seed"].toInt()),
                          .samples_B = context->get_saved_variables()[0],
                          .site = context->saved_data["site"].toInt()};
    return {dropped(gradients[0].contiguous(), dropout), at::Tensor()};
  }
};

}  // namespace

at::Tensor dropout(const at::Tensor& x, const Dropout& dropout) {
  return dropout.active() ? Drop::apply(x, dropout) : x;
}

}  // namespace sluice::kernels
