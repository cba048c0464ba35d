#include "trainer/kernels/products.h"

#include <ATen/ops/addmm.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/mm.h>
#include <c10/core/GradMode.h>
#include <c10/util/Exception.h>

#include "trainer/kernels/device_products.h"
#include "trainer/kernels/host_products.h"

namespace sluice::kernels {
namespace {

bool is_matrix(const at::Tensor& x) {
  return x.dim() == 2 && (x.size(1) <= 1 || x.stride(1) == 1) && (x.size(0) <= 1 || x.stride(0) >= x.size(1));
}

/// a and b are matrices of one type on one device that agree in the given sizes.
void check_operands(const char* product, const at::Tensor& a, std::int64_t of_a, const at::Tensor& b,
                    std::int64_t of_b) {
  TORCH_CHECK(is_matrix(a) && is_matrix(b) && a.scalar_type() == b.scalar_type() &&
                  a.device() == b.device() && a.size(of_a) == b.size(of_b),
              product, ": ", a.sizes(), " by ", a.strides(), " of ", a.scalar_type(), " on ", a.device(),
              " and ", b.sizes(), " by ", b.strides(), " of ", b.scalar_type(), " on ", b.device());
}

/// A result [rows, columns] of operands like `a`, in its type or in float32 for bfloat16.
void check_result(const char* product, const at::Tensor& result, const at::Tensor& a, std::int64_t rows,
                  std::int64_t columns) {
  const bool wider = a.scalar_type() == at::kBFloat16 && result.scalar_type() == at::kFloat;
  TORCH_CHECK(is_matrix(result) && result.device() == a.device() && result.size(0) == rows &&
                  result.size(1) == columns && (wider || result.scalar_type() == a.scalar_type()),
              product, ": result ", result.sizes(), " by ", result.strides(), " of ", result.scalar_type(),
              " on ", result.device(), ", expected [", rows, ", ", columns, "] of operands in ",
              a.scalar_type(), " on ", a.device());
}

void check_bias(const at::Tensor& y, const at::Tensor& w, const at::Tensor& bias) {
  TORCH_CHECK(!bias.defined() || (bias.dim() == 1 && bias.size(0) == w.size(0) && bias.is_contiguous() &&
                                  bias.scalar_type() == w.scalar_type() && bias.device() == w.device() &&
                                  y.scalar_type() == w.scalar_type()),
              "linear: weight ", w.sizes(), " of ", w.scalar_type(), ", bias ", bias.sizes(), " of ",
              bias.scalar_type(), ", result of ", y.scalar_type());
}

/// result = a b where no kernel of a GPU's does it.
void multiply(const at::Tensor& result, const at::Tensor& a, const at::Tensor& b) {
  at::Tensor out = result;
  if (result.scalar_type() == a.scalar_type()) {
    if (a.is_cpu()) return host::multiply(result, a, b);
    at::mm_out(out, a, b);
  } else if (a.is_cuda()) {
    at::mm_out(out, a, b, at::kFloat);
  } else {
    at::mm_out(out, a.to(at::kFloat), b.to(at::kFloat));
  }
}

}  // namespace

at::Tensor linear(const at::Tensor& x, const at::Tensor& w, const at::Tensor& bias) {
  check_operands("linear", x, 1, w, 1);
  at::Tensor y = at::empty({x.size(0), w.size(0)}, x.options().requires_grad(false));
  linear_into(y, x, w, bias);
  return y;
}

void linear_into(const at::Tensor& y, const at::Tensor& x, const at::Tensor& w, const at::Tensor& bias) {
  check_operands("linear", x, 1, w, 1);
  check_result("linear", y, x, x.size(0), w.size(0));
  check_bias(y, w, bias);
  if (try_linear(y, x, w, bias)) return;
  const at::NoGradGuard no_autograd;
  at::Tensor out = y;
  if (bias.defined() && y.is_cpu()) {
    out.copy_(bias.expand_as(y));
    host::multiply(y, x, w.t(), Before::kSum);
  } else if (bias.defined()) {
    at::addmm_out(out, bias, x, w.t());
  } else {
    multiply(y, x, w.t());
  }
}

at::Tensor linear_input_gradient(const at::Tensor& dy, const at::Tensor& w) {
  check_operands("linear_input_gradient", dy, 1, w, 0);
  at::Tensor dx = at::empty({dy.size(0), w.size(1)}, dy.options().requires_grad(false));
  linear_input_gradient_into(dx, dy, w);
  return dx;
}

void linear_input_gradient_into(const at::Tensor& dx, const at::Tensor& dy, const at::Tensor& w) {
  check_operands("linear_input_gradient", dy, 1, w, 0);
  check_result("linear_input_gradient", dx, dy, dy.size(0), w.size(1));
  if (try_linear_input_gradient(dx, dy, w)) return;
  const at::NoGradGuard no_autograd;
  multiply(dx, dy, w);
}

void add_linear_weight_gradient(const GradientSum& into, const at::Tensor& dy, const at::Tensor& x) {
  const at::Tensor& sum = into.sum;
  check_operands("add_linear_weight_gradient", dy, 0, x, 0);
  check_result("add_linear_weight_gradient", sum, dy, dy.size(1), x.size(1));
  TORCH_CHECK(sum.scalar_type() == at::kFloat || sum.scalar_type() == at::kDouble,
              "add_linear_weight_gradient: sum of ", sum.scalar_type(), ", allowed are float32 and float64");
  if (try_linear_weight_gradient(into, dy, x)) return;
  const at::NoGradGuard no_autograd;
  if (into.before == Before::kNothing) return multiply(sum, dy.t(), x);
  at::Tensor out = sum;
  if (sum.scalar_type() == dy.scalar_type() && dy.is_cpu()) {
    host::multiply(sum, dy.t(), x, Before::kSum);
  } else if (sum.scalar_type() == dy.scalar_type()) {
    at::addmm_out(out, sum, dy.t(), x);
  } else if (dy.is_cuda()) {
    at::addmm_out(out, sum, dy.t(), x, at::kFloat);
  } else {
    at::addmm_out(out, sum, dy.to(at::kFloat).t(), x.to(at::kFloat));
  }
}

}  // namespace sluice::kernels
