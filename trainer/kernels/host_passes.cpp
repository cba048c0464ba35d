#include "trainer/kernels/host_passes.h"

#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>
#include <c10/util/Exception.h>

#include <algorithm>
#include <string>
#include <vector>

#include "trainer/kernels/host_rows.h"

namespace sluice::kernels::host {
namespace {

std::string described(const at::Tensor& tensor) {
  if (!tensor.defined()) return "undefined";
  return c10::str(tensor.sizes(), " ", tensor.scalar_type(), " on ", tensor.device(), ", strides ",
                  tensor.strides());
}

/// What every tensor of a pass must be.
struct Pass {
  const char* name;
  std::int64_t rows;
  std::int64_t width;

  void check(bool holds, const at::Tensor& tensor, const char* what, at::IntArrayRef shape,
             const char* layout) const {
    TORCH_CHECK(holds && tensor.is_cpu() && tensor.scalar_type() == at::kFloat && tensor.sizes() == shape,
                name, ": ", what, " must be ", shape, " float32 on the CPU, ", layout, ", and is ",
                described(tensor));
  }
  void matrix(const at::Tensor& tensor, const char* what) const {
    check(tensor.defined() && tensor.is_contiguous(), tensor, what, {rows, width}, "contiguous");
  }
  void half(const at::Tensor& tensor, const char* what) const {
    check(tensor.defined() && tensor.dim() == 2 && (width == 1 || tensor.stride(1) == 1) &&
              (rows == 1 || tensor.stride(0) >= width),
          tensor, what, {rows, width}, "its rows' elements adjacent");
  }
  void vector(const at::Tensor& tensor, const char* what, std::int64_t size) const {
    check(tensor.defined() && tensor.is_contiguous(), tensor, what, {size}, "contiguous");
  }
  void parameter(const at::Tensor& tensor, const char* what) const { vector(tensor, what, width); }
  void statistics(const at::Tensor& tensor) const {
    check(tensor.defined() && tensor.is_contiguous(), tensor, "statistics", {rows, 2}, "contiguous");
  }
  void positions(const at::Tensor& bias, std::int64_t count) const {
    TORCH_CHECK(count > 0 && rows % count == 0, name, ": ", rows, " rows are no multiple of ", count,
                " positions");
    if (bias.defined()) vector(bias, "bias", count);
  }
  [[nodiscard]] at::Tensor made(at::IntArrayRef shape) const { return at::empty(shape, at::kFloat); }
};

Pass pass_over(const char* name, const at::Tensor& x) {
  TORCH_CHECK(x.defined() && x.dim() == 2 && x.size(0) > 0 && has_passes(x, at::kFloat, {x.size(1)}), name,
              ": no pass on this CPU for ", described(x));
  return {name, x.size(0), x.size(1)};
}

Strided strided(const at::Tensor& tensor) { return {tensor.const_data_ptr<float>(), tensor.stride(0)}; }
const float* read(const at::Tensor& tensor) {
  return tensor.defined() ? tensor.const_data_ptr<float>() : nullptr;
}

/// How rows are shared among threads: by their shape alone, so that sums are.
struct Chunks {
  explicit Chunks(const Pass& pass) {
    constexpr std::int64_t kLeastElements = 16384, kMost = 128;
    const std::int64_t least = std::max((pass.rows + kMost - 1) / kMost, kLeastElements / pass.width);
    rows_of_each = (std::max<std::int64_t>(least, 1) + kRowsAtOnce - 1) / kRowsAtOnce * kRowsAtOnce;
    count = (pass.rows + rows_of_each - 1) / rows_of_each;
  }
  std::int64_t rows_of_each;
  std::int64_t count;
};

template <class Tensors>
using RowLoop = void (*)(const Tensors&, const Chunk&);

/// sum[c] += the chunks' parts [chunks, stride] at column c, which are added to each other first.
void add_parts(const at::Tensor& sum, float* parts, std::int64_t chunks, std::int64_t stride) {
  const std::int64_t width = sum.size(0);
  for (std::int64_t chunk = 1; chunk < chunks; ++chunk)
    for (std::int64_t c = 0; c < width; ++c) parts[c] += parts[chunk * stride + c];
  float* const into = sum.mutable_data_ptr<float>();
  for (std::int64_t c = 0; c < width; ++c) into[c] += parts[c];
}

/// The loop over all rows. `sums` [width] are added to, an undefined one is computed in vain.
template <class Tensors>
void run(const Pass& pass, RowLoop<Tensors> loop, const Tensors& tensors,
         const std::vector<at::Tensor>& sums = {}) {
  const Chunks chunks(pass);
  const std::int64_t stride = static_cast<std::int64_t>(sums.size()) * pass.width;
  std::vector<float> parts(static_cast<std::size_t>(chunks.count * stride));
  at::parallel_for(0, chunks.count, 1, [&](std::int64_t begin, std::int64_t end) {
    std::vector<float> scratch(static_cast<std::size_t>(sums.empty() ? 0 : kRowsAtOnce * pass.width));
    for (std::int64_t chunk = begin; chunk < end; ++chunk) {
      const std::int64_t first = chunk * chunks.rows_of_each;
      loop(tensors, {.first = first,
                     .end = std::min(first + chunks.rows_of_each, pass.rows),
                     .sums = parts.data() + chunk * stride,
                     .scratch = scratch.data()});
    }
  });
  for (std::size_t i = 0; i < sums.size(); ++i)
    if (sums[i].defined())
      add_parts(sums[i], parts.data() + static_cast<std::int64_t>(i) * pass.width, chunks.count, stride);
}

}  // namespace

bool has_passes() { return row_loops() != nullptr; }

bool has_passes(const at::Tensor& x, at::ScalarType compute, at::IntArrayRef widths) {
  return x.is_cpu() && x.scalar_type() == at::kFloat && compute == at::kFloat && has_passes() &&
         std::all_of(widths.begin(), widths.end(), [](std::int64_t width) { return width > 0; });
}

ResidualNorm residual_norm_forward(const at::Tensor& x, const at::Tensor& branch,
                                   const at::Tensor& branch_bias, const at::Tensor& weight,
                                   const at::Tensor& bias, double eps) {
  const Pass pass = pass_over("residual_norm_forward", x);
  pass.matrix(x, "x");
  pass.parameter(weight, "weight");
  pass.parameter(bias, "bias");
  TORCH_CHECK(branch.defined() == branch_bias.defined(), pass.name, ": a branch and its bias come together");
  if (branch.defined()) {
    pass.matrix(branch, "branch");
    pass.parameter(branch_bias, "branch_bias");
  }
  ResidualNorm out{branch.defined() ? pass.made(x.sizes()) : x, pass.made(x.sizes()),
                   pass.made({pass.rows, 2})};
  run(pass, row_loops()->residual_norm_forward,
      {.x = read(x),
       .branch = read(branch),
       .branch_bias = read(branch_bias),
       .weight = read(weight),
       .bias = read(bias),
       .sum = branch.defined() ? out.sum.mutable_data_ptr<float>() : nullptr,
       .y = out.y.mutable_data_ptr<float>(),
       .statistics = out.statistics.mutable_data_ptr<float>(),
       .width = pass.width,
       .eps = static_cast<float>(eps)});
  return out;
}

ResidualGradient residual_norm_backward(const at::Tensor& dy, const at::Tensor& dsum, const at::Tensor& sum,
                                        const at::Tensor& weight, const at::Tensor& statistics,
                                        const ResidualNormSums& sums) {
  const Pass pass = pass_over("residual_norm_backward", sum);
  pass.matrix(sum, "sum");
  pass.matrix(dy, "dy");
  if (dsum.defined()) pass.matrix(dsum, "dsum");
  pass.parameter(weight, "weight");
  pass.statistics(statistics);
  pass.parameter(sums.weight, "sums.weight");
  pass.parameter(sums.bias, "sums.bias");
  const bool branch = sums.branch_bias.defined();
  if (branch) pass.parameter(sums.branch_bias, "sums.branch_bias");
  ResidualGradient out{pass.made(sum.sizes()), {}};
  if (branch) out.branch = out.x;
  run(pass, row_loops()->residual_norm_backward,
      {.dy = read(dy),
       .dsum = read(dsum),
       .sum = read(sum),
       .weight = read(weight),
       .statistics = read(statistics),
       .dx = out.x.mutable_data_ptr<float>(),
       .width = pass.width},
      {sums.weight, sums.bias, sums.branch_bias});
  return out;
}

GeluNorm gelu_norm_forward(const at::Tensor& input, const at::Tensor& weight, const at::Tensor& bias,
                           double eps) {
  const Pass pass = pass_over("gelu_norm_forward", input);
  GeluNorm out{pass.made(input.sizes()), pass.made({pass.rows, 2})};
  host::gelu_norm_forward_into(out, {}, input, weight, bias, eps);
  return out;
}

void gelu_norm_forward_into(const GeluNorm& out, const at::Tensor& again, const at::Tensor& input,
                            const at::Tensor& weight, const at::Tensor& bias, double eps) {
  const Pass pass = pass_over("gelu_norm_forward", input);
  pass.half(input, "input");
  pass.parameter(weight, "weight");
  pass.parameter(bias, "bias");
  pass.matrix(out.y, "out.y");
  pass.statistics(out.statistics);
  if (again.defined()) pass.matrix(again, "again");
  run(pass, row_loops()->gelu_norm_forward,
      {.input = strided(input),
       .weight = read(weight),
       .bias = read(bias),
       .y = out.y.mutable_data_ptr<float>(),
       .statistics = out.statistics.mutable_data_ptr<float>(),
       .width = pass.width,
       .eps = static_cast<float>(eps)});
  if (again.defined()) again.copy_(out.y);
}

void gelu_norm_backward(const at::Tensor& dy, const at::Tensor& input, const at::Tensor& weight,
                        const at::Tensor& statistics, const at::Tensor& dinput, const GeluNormSums& sums) {
  const Pass pass = pass_over("gelu_norm_backward", input);
  pass.half(dy, "dy");
  pass.half(input, "input");
  pass.half(dinput, "dinput");
  pass.parameter(weight, "weight");
  pass.statistics(statistics);
  pass.parameter(sums.weight, "sums.weight");
  pass.parameter(sums.bias, "sums.bias");
  pass.parameter(sums.input_bias, "sums.input_bias");
  run(pass, row_loops()->gelu_norm_backward,
      {.dy = strided(dy),
       .input = strided(input),
       .weight = read(weight),
       .statistics = read(statistics),
       .dinput = dinput.mutable_data_ptr<float>(),
       .dinput_stride = dinput.stride(0),
       .width = pass.width},
      {sums.weight, sums.bias, sums.input_bias});
}

at::Tensor gate_forward(const at::Tensor& input, const at::Tensor& mixed, const at::Tensor& bias,
                        std::int64_t positions) {
  const Pass pass = pass_over("gate_forward", input);
  pass.half(input, "input");
  pass.half(mixed, "mixed");
  pass.positions(bias, positions);
  const at::Tensor z = pass.made(input.sizes());
  run(pass, row_loops()->gate_forward,
      {.input = strided(input),
       .mixed = strided(mixed),
       .bias = read(bias),
       .z = z.mutable_data_ptr<float>(),
       .positions = positions,
       .width = pass.width});
  return z;
}

GateGradient gate_backward(const at::Tensor& dz, const at::Tensor& input, const at::Tensor& mixed,
                           const at::Tensor& bias, std::int64_t positions, const at::Tensor& dinput,
                           const GateSums& sums) {
  const Pass pass = pass_over("gate_backward", input);
  pass.half(dz, "dz");
  pass.half(input, "input");
  pass.half(mixed, "mixed");
  pass.half(dinput, "dinput");
  pass.positions(bias, positions);
  pass.vector(sums.position_bias, "sums.position_bias", positions);
  pass.parameter(sums.input_bias, "sums.input_bias");
  GateGradient out{.mixed = pass.made(input.sizes()), .z = pass.made(input.sizes())};
  std::vector<float> row_sums(static_cast<std::size_t>(pass.rows));
  run(pass, row_loops()->gate_backward,
      {.dz = strided(dz),
       .input = strided(input),
       .mixed = strided(mixed),
       .bias = read(bias),
       .z = out.z.mutable_data_ptr<float>(),
       .dmixed = out.mixed.mutable_data_ptr<float>(),
       .dinput = dinput.mutable_data_ptr<float>(),
       .dinput_stride = dinput.stride(0),
       .row_sums = row_sums.data(),
       .positions = positions,
       .width = pass.width},
      {sums.input_bias});
  add_parts(sums.position_bias, row_sums.data(), pass.rows / positions, positions);
  return out;
}

}  // namespace sluice::kernels::host
