#include "trainer/kernels/fused_passes.h"

#include <algorithm>

#include "trainer/kernels/fused_pass_cuda_internal.h"
#include "trainer/kernels/host_passes.h"

namespace sluice::kernels {
namespace {

bool fused_type(at::ScalarType type) { return type == at::kFloat || type == at::kBFloat16; }

void check_positions(const Pass& pass, const at::Tensor& bias, std::int64_t positions) {
  TORCH_CHECK(positions > 0 && pass.rows % positions == 0, pass.name, ": ", pass.rows,
              " rows are no multiple of ", positions, " positions");
  if (bias.defined()) pass.vector(bias, "bias", pass.compute, positions);
}

}  // namespace

bool has_fused_passes(const at::Tensor& x, at::ScalarType compute, at::IntArrayRef widths) {
  if (x.is_cpu()) return host::has_passes(x, compute, widths);
  static_assert(kMostFusedWidth == launch::kFusedWidth);
  if (!std::all_of(widths.begin(), widths.end(), is_fused_width)) return false;
  return x.is_cuda() && fused_type(compute) && (x.scalar_type() == at::kFloat || x.scalar_type() == compute);
}

ResidualNorm residual_norm_forward(const at::Tensor& x, const at::Tensor& branch,
                                   const at::Tensor& branch_bias, const at::Tensor& weight,
                                   const at::Tensor& bias, double eps) {
  if (x.is_cpu()) return host::residual_norm_forward(x, branch, branch_bias, weight, bias, eps);
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
                                        const ResidualNormSums& sums, ColumnSums* later) {
  if (sum.is_cpu()) return host::residual_norm_backward(dy, dsum, sum, weight, statistics, sums);
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
  const int blocks =
      launch::residual_norm_backward({.dy = dy.const_data_ptr(),
                                      .dsum = data_or_null(dsum),
                                      .sum = sum.const_data_ptr(),
                                      .weight = weight.const_data_ptr(),
                                      .statistics = statistics.const_data_ptr<float>(),
                                      .dx = out.x.mutable_data_ptr(),
                                      .branch = rounded ? out.branch.mutable_data_ptr() : nullptr,
                                      .sums_branch = branch,
                                      .partials = partials.mutable_data_ptr<float>(),
                                      .rows = pass.rows,
                                      .width = pass.width},
                                     fused_precision(sum), fused_precision(weight), fused_stream(sum));
  add_sums(later, partials, blocks, {sums.weight, sums.bias, sums.branch_bias});
  return out;
}

GeluNorm gelu_norm_forward(const at::Tensor& input, const at::Tensor& weight, const at::Tensor& bias,
                           double eps) {
  if (input.is_cpu()) return host::gelu_norm_forward(input, weight, bias, eps);
  const Pass pass = pass_over("gelu_norm_forward", input, input.scalar_type());
  GeluNorm out{new_tensor(input, input.sizes(), pass.compute), new_tensor(input, {pass.rows, 2}, at::kFloat)};
  gelu_norm_forward_into(out, {}, input, weight, bias, eps);
  return out;
}

void gelu_norm_forward_into(const GeluNorm& out, const at::Tensor& again, const at::Tensor& input,
                            const at::Tensor& weight, const at::Tensor& bias, double eps) {
  if (input.is_cpu()) return host::gelu_norm_forward_into(out, again, input, weight, bias, eps);
  const Pass pass = pass_over("gelu_norm_forward", input, input.scalar_type());
  pass.half(input, "input");
  pass.parameter(weight, "weight");
  pass.parameter(bias, "bias");
  pass.matrix(out.y, "out.y", pass.compute);
  pass.statistics(out.statistics);
  if (again.defined()) pass.matrix(again, "again", pass.compute);
  launch::gelu_norm_forward({.input = strided(input),
                             .weight = weight.const_data_ptr(),
                             .bias = bias.const_data_ptr(),
                             .y = out.y.mutable_data_ptr(),
                             .again = again.defined() ? again.mutable_data_ptr() : nullptr,
                             .statistics = out.statistics.mutable_data_ptr<float>(),
                             .rows = pass.rows,
                             .width = pass.width,
                             .eps = static_cast<float>(eps)},
                            fused_precision(input), fused_stream(input));
}

void gelu_norm_backward(const at::Tensor& dy, const at::Tensor& input, const at::Tensor& weight,
                        const at::Tensor& statistics, const at::Tensor& dinput, const GeluNormSums& sums,
                        ColumnSums* later) {
  if (input.is_cpu()) return host::gelu_norm_backward(dy, input, weight, statistics, dinput, sums);
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
  const int blocks = launch::gelu_norm_backward({.dy = strided(dy),
                                                 .input = strided(input),
                                                 .weight = weight.const_data_ptr(),
                                                 .statistics = statistics.const_data_ptr<float>(),
                                                 .dinput = dinput.mutable_data_ptr(),
                                                 .dinput_stride = dinput.stride(0),
                                                 .partials = partials.mutable_data_ptr<float>(),
                                                 .rows = pass.rows,
                                                 .width = pass.width},
                                                fused_precision(input), fused_stream(input));
  add_sums(later, partials, blocks, {sums.weight, sums.bias, sums.input_bias});
}

at::Tensor gate_forward(const at::Tensor& input, const at::Tensor& mixed, const at::Tensor& bias,
                        std::int64_t positions) {
  if (input.is_cpu()) return host::gate_forward(input, mixed, bias, positions);
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
                           const GateSums& sums, ColumnSums* later) {
  if (input.is_cpu()) return host::gate_backward(dz, input, mixed, bias, positions, dinput, sums);
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
      new_tensor(input, {launch::fused_warps(pass.width) * pass.rows / positions, positions}, at::kFloat);
  const int blocks = launch::gate_backward({.dz = strided(dz),
                                            .input = strided(input),
                                            .mixed = strided(mixed),
                                            .bias = data_or_null(bias),
                                            .z = out.z.mutable_data_ptr(),
                                            .dmixed = out.mixed.mutable_data_ptr(),
                                            .dinput = dinput.mutable_data_ptr(),
                                            .dinput_stride = dinput.stride(0),
                                            .partials = partials.mutable_data_ptr<float>(),
                                            .row_partials = row_partials.mutable_data_ptr<float>(),
                                            .rows = pass.rows,
                                            .positions = positions,
                                            .width = pass.width},
                                           fused_precision(input), fused_stream(input));
  ColumnSums now;
  ColumnSums& left = later == nullptr ? now : *later;
  left.add(row_partials, sums.position_bias);
  add_sums(&left, partials, blocks, {sums.input_bias});
  now.finish();
  return out;
}

}  // namespace sluice::kernels
