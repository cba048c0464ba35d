#include "trainer/kernels/fused_passes.h"

#include <ATen/ops/empty.h>
#include <c10/cuda/CUDAStream.h>
#include <c10/util/Exception.h>

#include <algorithm>

#include "trainer/kernels/cuda_fused_launch.h"

namespace sluice::kernels {
namespace {

constexpr std::int64_t kMostRows = std::int64_t{1} << 30;

bool fused_type(at::ScalarType type) { return type == at::kFloat || type == at::kBFloat16; }

launch::Precision fused_precision(const at::Tensor& tensor) {
  return tensor.scalar_type() == at::kFloat ? launch::Precision::kFloat : launch::Precision::kBf16;
}

cudaStream_t fused_stream(const at::Tensor& tensor) {
  return c10::cuda::getCurrentCUDAStream(tensor.device().index()).stream();
}

at::Tensor new_tensor(const at::Tensor& like, at::IntArrayRef shape, at::ScalarType type) {
  return at::empty(shape, like.options().dtype(type).requires_grad(false));
}

bool aligned(const at::Tensor& tensor) {
  return reinterpret_cast<std::uintptr_t>(tensor.const_data_ptr()) % 16 == 0;
}

/// What every tensor of a pass must share.
struct Pass {
  const char* name;
  at::Device device;
  at::ScalarType compute;
  std::int64_t rows;
  std::int64_t width;

  /// [rows, width] of the type, contiguous.
  void matrix(const at::Tensor& tensor, const char* what, at::ScalarType type) const {
    TORCH_CHECK(tensor.defined() && tensor.device() == device && tensor.scalar_type() == type &&
                    tensor.dim() == 2 && tensor.size(0) == rows && tensor.size(1) == width &&
                    tensor.is_contiguous() && aligned(tensor),
                name, ": ", what, " must be [", rows, ", ", width, "] ", type, ", contiguous and on ", device,
                ", and is ", described(tensor));
  }
  /// [rows, width] of the compute type, rows apart.
  void half(const at::Tensor& tensor, const char* what) const {
    const std::int64_t unit = compute == at::kFloat ? 4 : 8;
    TORCH_CHECK(tensor.defined() && tensor.device() == device && tensor.scalar_type() == compute &&
                    tensor.dim() == 2 && tensor.size(0) == rows && tensor.size(1) == width &&
                    tensor.stride(1) == 1 && tensor.stride(0) >= width && tensor.stride(0) % unit == 0 &&
                    aligned(tensor),
                name, ": ", what, " must be [", rows, ", ", width, "] ", compute, " on ", device,
                ", its rows' elements adjacent and its rows 16-byte aligned, and is ", described(tensor));
  }
  void vector(const at::Tensor& tensor, const char* what, at::ScalarType type, std::int64_t size) const {
    TORCH_CHECK(tensor.defined() && tensor.device() == device && tensor.scalar_type() == type &&
                    tensor.dim() == 1 && tensor.size(0) == size && tensor.is_contiguous(),
                name, ": ", what, " must be [", size, "] ", type, ", contiguous and on ", device, ", and is ",
                described(tensor));
  }
  /// A parameter [width], read 16 bytes at a time.
  void parameter(const at::Tensor& tensor, const char* what) const {
    vector(tensor, what, compute, width);
    TORCH_CHECK(aligned(tensor), name, ": ", what, " must be 16-byte aligned");
  }
  void sum(const at::Tensor& tensor, const char* what) const { vector(tensor, what, at::kFloat, width); }
  void statistics(const at::Tensor& tensor) const {
    TORCH_CHECK(tensor.defined() && tensor.device() == device && tensor.scalar_type() == at::kFloat &&
                    tensor.dim() == 2 && tensor.size(0) == rows && tensor.size(1) == 2 &&
                    tensor.is_contiguous(),
                name, ": statistics must be [", rows, ", 2] float32, contiguous and on ", device,
                ", and are ", described(tensor));
  }

  static std::string described(const at::Tensor& tensor) {
    if (!tensor.defined()) return "undefined";
    return c10::str(tensor.sizes(), " ", tensor.scalar_type(), " on ", tensor.device(), ", strides ",
                    tensor.strides(), tensor.is_cuda() && !aligned(tensor) ? ", not 16-byte aligned" : "");
  }
};

Pass pass_over(const char* name, const at::Tensor& x, at::ScalarType compute) {
  TORCH_CHECK(x.defined() && x.dim() == 2 && has_fused_passes(x, compute, {x.size(1)}) && x.size(0) > 0 &&
                  x.size(0) <= kMostRows,
              name, ": no kernel for ", Pass::described(x), " computed in ", compute);
  return {name, x.device(), compute, x.size(0), x.size(1)};
}

launch::Strided strided(const at::Tensor& tensor) { return {tensor.const_data_ptr(), tensor.stride(0)}; }

const void* data_or_null(const at::Tensor& tensor) {
  return tensor.defined() ? tensor.const_data_ptr() : nullptr;
}

at::Tensor partials_of(const Pass& pass, const at::Tensor& like, std::int64_t sums) {
  return new_tensor(like, {sums * launch::kFusedMost * pass.width}, at::kFloat);
}

void check_positions(const Pass& pass, const at::Tensor& bias, std::int64_t positions) {
  TORCH_CHECK(positions > 0 && pass.rows % positions == 0, pass.name, ": ", pass.rows,
              " rows are no multiple of ", positions, " positions");
  if (bias.defined()) pass.vector(bias, "bias", pass.compute, positions);
}

}  // namespace

bool has_fused_passes(const at::Tensor& x, at::ScalarType compute, at::IntArrayRef widths) {
  static_assert(kMostFusedWidth == launch::kFusedWidth);
  if (!std::all_of(widths.begin(), widths.end(), is_fused_width)) return false;
  return x.is_cuda() && fused_type(compute) && (x.scalar_type() == at::kFloat || x.scalar_type() == compute);
}

ResidualNorm residual_norm_forward(const at::Tensor& x, const at::Tensor& branch,
                                   const at::Tensor& branch_bias, const at::Tensor& weight,
                                   const at::Tensor& bias, double eps) {
  const Pass pass = pass_over("residual_norm_forward", x, weight.scalar_type());
  pass.matrix(x, "x", x.scalar_type());
  pass.parameter(weight, "weight");
  pass.parameter(bias, "bias");
  TORCH_CHECK(branch.defined() == branch_bias.defined(), pass.name, ": a branch and its bias come together");
  if (branch.defined()) {
    pass.matrix(branch, "branch", pass.compute);
    pass.parameter(branch_bias, "branch_bias");
  }
  ResidualNorm out{branch.defined() ? new_tensor(x, x.sizes(), x.scalar_type()) : x,
                   new_tensor(x, x.sizes(), pass.compute), new_tensor(x, {pass.rows, 2}, at::kFloat)};
  launch::residual_norm_forward({.x = x.const_data_ptr(),
                                 .branch = data_or_null(branch),
                                 .branch_bias = data_or_null(branch_bias),
                                 .weight = weight.const_data_ptr(),
                                 .bias = bias.const_data_ptr(),
                                 .sum = branch.defined() ? out.sum.mutable_data_ptr() : nullptr,
                                 .y = out.y.mutable_data_ptr(),
                                 .statistics = out.statistics.mutable_data_ptr<float>(),
                                 .rows = pass.rows,
                                 .width = pass.width,
                                 .eps = static_cast<float>(eps)},
                                fused_precision(x), fused_precision(weight), fused_stream(x));
  return out;
}

ResidualGradient residual_norm_backward(const at::Tensor& dy, const at::Tensor& dsum, const at::Tensor& sum,
                                        const at::Tensor& weight, const at::Tensor& statistics,
                                        const ResidualNormSums& sums) {
  const Pass pass = pass_over("residual_norm_backward", sum, weight.scalar_type());
  pass.matrix(sum, "sum", sum.scalar_type());
  pass.matrix(dy, "dy", pass.compute);
  if (dsum.defined()) pass.matrix(dsum, "dsum", sum.scalar_type());
  pass.parameter(weight, "weight");
  pass.statistics(statistics);
  pass.sum(sums.weight, "sums.weight");
  pass.sum(sums.bias, "sums.bias");
  const bool branch = sums.branch_bias.defined();
  if (branch) pass.sum(sums.branch_bias, "sums.branch_bias");
  ResidualGradient out{new_tensor(sum, sum.sizes(), sum.scalar_type()), {}};
  const bool rounded = branch && sum.scalar_type() != pass.compute;
  if (branch) out.branch = rounded ? new_tensor(sum, sum.sizes(), pass.compute) : out.x;
  const at::Tensor partials = partials_of(pass, sum, 3);
  launch::residual_norm_backward({.dy = dy.const_data_ptr(),
                                  .dsum = data_or_null(dsum),
                                  .sum = sum.const_data_ptr(),
                                  .weight = weight.const_data_ptr(),
                                  .statistics = statistics.const_data_ptr<float>(),
                                  .dx = out.x.mutable_data_ptr(),
                                  .branch = rounded ? out.branch.mutable_data_ptr() : nullptr,
                                  .weight_sum = sums.weight.mutable_data_ptr<float>(),
                                  .bias_sum = sums.bias.mutable_data_ptr<float>(),
                                  .branch_sum = branch ? sums.branch_bias.mutable_data_ptr<float>() : nullptr,
                                  .partials = partials.mutable_data_ptr<float>(),
                                  .rows = pass.rows,
                                  .width = pass.width},
                                 fused_precision(sum), fused_precision(weight), fused_stream(sum));
  return out;
}

GeluNorm gelu_norm_forward(const at::Tensor& input, const at::Tensor& weight, const at::Tensor& bias,
                           double eps) {
  const Pass pass = pass_over("gelu_norm_forward", input, input.scalar_type());
  pass.half(input, "input");
  pass.parameter(weight, "weight");
  pass.parameter(bias, "bias");
  GeluNorm out{new_tensor(input, input.sizes(), pass.compute), new_tensor(input, {pass.rows, 2}, at::kFloat)};
  launch::gelu_norm_forward({.input = strided(input),
                             .weight = weight.const_data_ptr(),
                             .bias = bias.const_data_ptr(),
                             .y = out.y.mutable_data_ptr(),
                             .statistics = out.statistics.mutable_data_ptr<float>(),
                             .rows = pass.rows,
                             .width = pass.width,
                             .eps = static_cast<float>(eps)},
                            fused_precision(input), fused_stream(input));
  return out;
}

void gelu_norm_backward(const at::Tensor& dy, const at::Tensor& input, const at::Tensor& weight,
                        const at::Tensor& statistics, const at::Tensor& dinput, const GeluNormSums& sums) {
  const Pass pass = pass_over("gelu_norm_backward", input, input.scalar_type());
  pass.half(dy, "dy");
  pass.half(input, "input");
  pass.half(dinput, "dinput");
  pass.parameter(weight, "weight");
  pass.statistics(statistics);
  pass.sum(sums.weight, "sums.weight");
  pass.sum(sums.bias, "sums.bias");
  pass.sum(sums.input_bias, "sums.input_bias");
  const at::Tensor partials = partials_of(pass, input, 3);
  launch::gelu_norm_backward({.dy = strided(dy),
                              .input = strided(input),
                              .weight = weight.const_data_ptr(),
                              .statistics = statistics.const_data_ptr<float>(),
                              .dinput = dinput.mutable_data_ptr(),
                              .dinput_stride = dinput.stride(0),
                              .weight_sum = sums.weight.mutable_data_ptr<float>(),
                              .bias_sum = sums.bias.mutable_data_ptr<float>(),
                              .input_sum = sums.input_bias.mutable_data_ptr<float>(),
                              .partials = partials.mutable_data_ptr<float>(),
                              .rows = pass.rows,
                              .width = pass.width},
                             fused_precision(input), fused_stream(input));
}

at::Tensor gate_forward(const at::Tensor& input, const at::Tensor& mixed, const at::Tensor& bias,
                        std::int64_t positions) {
  const Pass pass = pass_over("gate_forward", input, input.scalar_type());
  pass.half(input, "input");
  pass.half(mixed, "mixed");
  check_positions(pass, bias, positions);
  const at::Tensor z = new_tensor(input, input.sizes(), pass.compute);
  launch::gate_forward({.input = strided(input),
                        .mixed = strided(mixed),
                        .bias = data_or_null(bias),
                        .z = z.mutable_data_ptr(),
                        .rows = pass.rows,
                        .positions = positions,
                        .width = pass.width},
                       fused_precision(input), fused_stream(input));
  return z;
}

GateGradient gate_backward(const at::Tensor& dz, const at::Tensor& input, const at::Tensor& mixed,
                           const at::Tensor& bias, std::int64_t positions, const at::Tensor& dinput,
                           const GateSums& sums) {
  const Pass pass = pass_over("gate_backward", input, input.scalar_type());
  pass.half(dz, "dz");
  pass.half(input, "input");
  pass.half(mixed, "mixed");
  pass.half(dinput, "dinput");
  check_positions(pass, bias, positions);
  pass.vector(sums.position_bias, "sums.position_bias", at::kFloat, positions);
  pass.sum(sums.input_bias, "sums.input_bias");
  GateGradient out{.mixed = new_tensor(input, input.sizes(), pass.compute),
                   .z = new_tensor(input, input.sizes(), pass.compute)};
  const at::Tensor partials = partials_of(pass, input, 1);
  const at::Tensor row_partials =
      new_tensor(input, {launch::fused_warps(pass.width) * pass.rows}, at::kFloat);
  launch::gate_backward({.dz = strided(dz),
                         .input = strided(input),
                         .mixed = strided(mixed),
                         .bias = data_or_null(bias),
                         .z = out.z.mutable_data_ptr(),
                         .dmixed = out.mixed.mutable_data_ptr(),
                         .dinput = dinput.mutable_data_ptr(),
                         .dinput_stride = dinput.stride(0),
                         .position_sum = sums.position_bias.mutable_data_ptr<float>(),
                         .input_sum = sums.input_bias.mutable_data_ptr<float>(),
                         .partials = partials.mutable_data_ptr<float>(),
                         .row_partials = row_partials.mutable_data_ptr<float>(),
                         .rows = pass.rows,
                         .positions = positions,
                         .width = pass.width},
                        fused_precision(input), fused_stream(input));
  return out;
}

}  // namespace sluice::kernels
