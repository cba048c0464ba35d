#include "trainer/kernels/block_kernels.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <c10/cuda/CUDAStream.h>
#include <c10/util/Exception.h>

#include "trainer/kernels/cuda_launch.h"

namespace sluice::kernels {
namespace {

cudaStream_t block_stream(const at::Tensor& tensor) {
  return c10::cuda::getCurrentCUDAStream(tensor.device().index()).stream();
}

bool has_type(const at::Tensor& tensor) {
  return tensor.scalar_type() == at::kFloat || tensor.scalar_type() == at::kBFloat16;
}

launch::Precision precision_of(const at::Tensor& tensor) {
  return tensor.scalar_type() == at::kFloat ? launch::Precision::kFloat : launch::Precision::kBf16;
}

at::Tensor floats(const at::Tensor& like, at::IntArrayRef shape) {
  return at::empty(shape, like.options().dtype(at::kFloat).requires_grad(false));
}

void check_norm(const at::Tensor& x, const at::Tensor& weight) {
  TORCH_CHECK(has_norm_kernel(x, weight) && x.is_contiguous() && weight.is_contiguous(),
              "layer norm: no kernel for x ", x.sizes(), " of ", x.scalar_type(), " and weight of ",
              weight.scalar_type());
}

}  // namespace

bool has_norm_kernel(const at::Tensor& x, const at::Tensor& weight) {
  const bool types = has_type(x) && has_type(weight) &&
                     (x.scalar_type() == weight.scalar_type() || weight.scalar_type() == at::kBFloat16);
  return x.is_cuda() && types && launch::has_norm_width(x.size(-1));
}

NormForward norm_forward(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias, double eps) {
  check_norm(x, weight);
  const std::int64_t width = x.size(-1);
  const std::int64_t rows = x.numel() / width;
  NormForward out{at::empty(x.sizes(), weight.options().requires_grad(false)), floats(x, {rows, 2})};
  launch::norm({.x = x.const_data_ptr(),
                .weight = weight.const_data_ptr(),
                .bias = bias.const_data_ptr(),
                .dy = nullptr,
                .y = out.y.mutable_data_ptr(),
                .statistics = out.statistics.mutable_data_ptr<float>(),
                .dx = nullptr,
                .dweight = nullptr,
                .dbias = nullptr,
                .partials = nullptr,
                .rows = rows,
                .width = width,
                .eps = static_cast<float>(eps)},
               precision_of(x), precision_of(weight), block_stream(x));
  return out;
}

NormBackward norm_backward(const at::Tensor& dy, const at::Tensor& x, const at::Tensor& weight,
                           const at::Tensor& statistics) {
  check_norm(x, weight);
  TORCH_CHECK(dy.is_contiguous() && dy.sizes() == x.sizes() && dy.scalar_type() == weight.scalar_type(),
              "layer norm: dy ", dy.sizes(), " of ", dy.scalar_type(), " for x ", x.sizes());
  const std::int64_t width = x.size(-1);
  NormBackward out{at::empty_like(x), at::empty_like(weight), at::empty_like(weight)};
  const at::Tensor partials = floats(x, {launch::kNormBlocks, 2, width});
  launch::norm({.x = x.const_data_ptr(),
                .weight = weight.const_data_ptr(),
                .bias = nullptr,
                .dy = dy.const_data_ptr(),
                .y = nullptr,
                .statistics = const_cast<float*>(statistics.const_data_ptr<float>()),
                .dx = out.x.mutable_data_ptr(),
                .dweight = out.weight.mutable_data_ptr(),
                .dbias = out.bias.mutable_data_ptr(),
                .partials = partials.mutable_data_ptr<float>(),
                .rows = x.numel() / width,
                .width = width,
                .eps = 0},
               precision_of(x), precision_of(weight), block_stream(x));
  return out;
}

bool has_gate_kernel(const at::Tensor& u) { return u.is_cuda() && has_type(u) && u.size(-1) % 4 == 0; }

at::Tensor gate_forward(const at::Tensor& u, const at::Tensor& s, const at::Tensor& bias) {
  TORCH_CHECK(u.is_contiguous() && s.is_contiguous() && bias.is_contiguous() && u.sizes() == s.sizes() &&
                  bias.numel() == u.size(1),
              "gate: u ", u.sizes(), ", s ", s.sizes(), ", bias ", bias.sizes());
  const at::Tensor z = at::empty(u.sizes(), u.options().requires_grad(false));
  launch::gate({.u = u.const_data_ptr(),
                .s = s.const_data_ptr(),
                .bias = bias.const_data_ptr(),
                .dz = nullptr,
                .z = z.mutable_data_ptr(),
                .du = nullptr,
                .ds = nullptr,
                .dbias = nullptr,
                .partials = nullptr,
                .rows = u.size(0) * u.size(1),
                .positions = u.size(1),
                .width = u.size(2)},
               precision_of(u), block_stream(u));
  return z;
}

GateBackward gate_backward(const at::Tensor& dz, const at::Tensor& u, const at::Tensor& s,
                           const at::Tensor& bias) {
  TORCH_CHECK(dz.is_contiguous() && dz.sizes() == u.sizes(), "gate: dz ", dz.sizes(), " for u ", u.sizes());
  GateBackward out{at::empty_like(u), at::empty_like(s), at::empty_like(bias)};
  const at::Tensor partials = floats(u, {u.size(0) * u.size(1)});
  launch::gate({.u = u.const_data_ptr(),
                .s = s.const_data_ptr(),
                .bias = bias.const_data_ptr(),
                .dz = dz.const_data_ptr(),
                .z = nullptr,
                .du = out.u.mutable_data_ptr(),
                .ds = out.s.mutable_data_ptr(),
                .dbias = out.bias.mutable_data_ptr(),
                .partials = partials.mutable_data_ptr<float>(),
                .rows = u.size(0) * u.size(1),
                .positions = u.size(1),
                .width = u.size(2)},
               precision_of(u), block_stream(u));
  return out;
}

}  // namespace sluice::kernels
