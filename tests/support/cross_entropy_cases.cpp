#include "tests/support/cross_entropy_cases.h"

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/ops/addmm.h>
#include <ATen/ops/cross_entropy_loss.h>
#include <ATen/ops/full.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/rand.h>
#include <ATen/ops/randint.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/sub.h>

#include <algorithm>

#include "trainer/kernels/cross_entropy.h"

namespace sluice::tests {
namespace {

at::Tensor leaf(const at::Tensor& value, at::ScalarType dtype, at::Device device) {
  if (!value.defined()) return {};
  at::Tensor result = value.to(device, dtype, /*non_blocking=*/false, /*copy=*/true);
  result.set_requires_grad(true);
  return result;
}

at::Tensor gradient_of(const at::Tensor& leaf) { return leaf.defined() ? leaf.grad() : at::Tensor{}; }

}  // namespace

Head make_head(const HeadCase& c) {
  const at::Generator generator = at::detail::createCPUGenerator(c.seed);
  const auto draw = [&](at::IntArrayRef shape, double scale) {
    return at::randn(shape, generator, at::TensorOptions().dtype(at::kDouble))
        .mul(scale)
        .to(at::kBFloat16)
        .to(at::kDouble);
  };
  Head head;
  head.x_Td = draw({c.rows, c.width}, c.scale);
  head.weight_Vd = draw({c.vocabulary, c.width}, 1.0);
  if (c.bias) head.bias_V = draw({c.vocabulary}, 1.0);
  head.targets_T = at::randint(c.vocabulary, {c.rows}, generator, at::TensorOptions().dtype(at::kLong));
  const at::Tensor ignored =
      at::rand({c.rows}, generator, at::TensorOptions().dtype(at::kDouble)).lt(c.ignored_share);
  head.targets_T.masked_fill_(ignored, kernels::kIgnoredTarget);
  return head;
}

HeadResult run_head(const Head& head, at::ScalarType dtype, at::Device device, std::int64_t chunk_rows,
                    double outer) {
  const at::Tensor x = leaf(head.x_Td, dtype, device);
  const at::Tensor weight = leaf(head.weight_Vd, dtype, device);
  const at::Tensor bias = leaf(head.bias_V, dtype, device);
  const at::Tensor loss =
      kernels::linear_cross_entropy(x, weight, bias, head.targets_T.to(device), chunk_rows);
  loss.backward(at::full({}, outer, loss.options()));
  return {loss.detach(), gradient_of(x), gradient_of(weight), gradient_of(bias)};
}

HeadResult run_reference(const Head& head, double outer) {
  const at::Tensor x = leaf(head.x_Td, at::kDouble, at::kCPU);
  const at::Tensor weight = leaf(head.weight_Vd, at::kDouble, at::kCPU);
  const at::Tensor bias = leaf(head.bias_V, at::kDouble, at::kCPU);
  const at::Tensor logits = bias.defined() ? at::addmm(bias, x, weight.t()) : at::mm(x, weight.t());
  const at::Tensor loss = at::cross_entropy_loss(logits, head.targets_T, /*weight=*/{}, at::Reduction::Sum,
                                                 kernels::kIgnoredTarget);
  loss.backward(at::full({}, outer, loss.options()));
  return {loss.detach(), gradient_of(x), gradient_of(weight), gradient_of(bias)};
}

double relative_error(const at::Tensor& actual, const at::Tensor& expected, double floor) {
  const auto plain = [](const at::Tensor& t) { return t.detach().to(at::kCPU, at::kDouble).reshape({-1}); };
  const at::Tensor a = plain(actual);
  const at::Tensor e = plain(expected);
  const double most = e.numel() == 0 ? 0 : e.abs().max().item<double>();
  const double difference = e.numel() == 0 ? 0 : at::sub(a, e).abs().max().item<double>();
  return difference == 0 ? 0
                         : difference / std::max(most, floor);  // NaN stays NaN, and fails every comparison
}

}  // namespace sluice::tests
