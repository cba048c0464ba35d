#include "trainer/kernels/spatial.h"

#include <ATen/ops/bmm.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/sum.h>
#include <ATen/ops/tril.h>

#include <algorithm>

#include "trainer/kernels/device_spatial.h"
#include "trainer/kernels/fused_passes.h"
#include "trainer/kernels/host_products.h"

namespace sluice::kernels {
namespace {

/// Rows of W that one product of ATen's takes. On a CPU fewer: there a product of as few is as fast, and the
/// triangle that none multiplies is larger.
std::int64_t rows_of_product(const c10::Device& device) { return device.is_cpu() ? 128 : 512; }

/// result[b] = weights values[b] for rows `first` and on of each sequence's result.
void multiply_rows(const at::Tensor& result_BTh, std::int64_t first, const at::Tensor& weights_rs,
                   const at::Tensor& values_Bsh) {
  const std::int64_t batch = result_BTh.size(0);
  const at::Tensor rows_Brh = result_BTh.narrow(1, first, weights_rs.size(0));
  const at::Tensor repeated = weights_rs.expand({batch, weights_rs.size(0), weights_rs.size(1)});
  const bool one_by_one = result_BTh.is_cpu() &&
                          (!rows_Brh.is_contiguous() ||  // of one sequence they are
                           host::prefers_onednn(weights_rs.size(0), weights_rs.size(1), values_Bsh.size(2)));
  if (one_by_one) {
    for (std::int64_t b = 0; b < batch; ++b)
      host::multiply(rows_Brh.select(0, b), weights_rs, values_Bsh.select(0, b));
  } else if (rows_Brh.is_contiguous()) {
    at::Tensor out = rows_Brh;
    at::bmm_out(out, repeated, values_Bsh);
  } else {
    rows_Brh.copy_(at::bmm(repeated, values_Bsh));
  }
}

/// The sum over b of dmixed[b] v[b]^T.
at::Tensor summed_products(const at::Tensor& dmixed_Brh, const at::Tensor& gate_Bsh, at::ScalarType type) {
  if (!dmixed_Brh.is_cpu() || dmixed_Brh.scalar_type() != type)
    return at::sum(at::bmm(dmixed_Brh, gate_Bsh.transpose(1, 2)), {0}, /*keepdim=*/false, type);
  at::Tensor sum = at::empty({dmixed_Brh.size(1), gate_Bsh.size(1)}, dmixed_Brh.options());
  for (std::int64_t b = 0; b < gate_Bsh.size(0); ++b)
    host::multiply(sum, dmixed_Brh.select(0, b), gate_Bsh.select(0, b).t(),
                   b == 0 ? Before::kNothing : Before::kSum);
  return sum;
}

/// Rows and columns of W that a product of rows `first` to `end` reads: masked if on the diagonal.
at::Tensor block_of(const at::Tensor& weight_nn, std::int64_t first, std::int64_t end, std::int64_t columns,
                    Mixing mixing) {
  const at::Tensor rows = weight_nn.narrow(0, first, end - first).narrow(1, 0, columns);
  return mixing == Mixing::kCausal ? at::tril(rows, first) : rows;
}

std::int64_t seen_by(std::int64_t end, std::int64_t positions, Mixing mixing) {
  return mixing == Mixing::kCausal ? end : positions;
}

at::Tensor mixed_by_aten(const at::Tensor& gate_BTh, const at::Tensor& weight_nn, const at::Tensor& bias_n,
                         Mixing mixing) {
  const std::int64_t positions = gate_BTh.size(1);
  const std::int64_t rows = rows_of_product(gate_BTh.device());
  at::Tensor mixed = at::empty_like(gate_BTh);
  for (std::int64_t first = 0; first < positions; first += rows) {
    const std::int64_t end = std::min(first + rows, positions);
    const std::int64_t seen = seen_by(end, positions, mixing);
    multiply_rows(mixed, first, block_of(weight_nn, first, end, seen, mixing), gate_BTh.narrow(1, 0, seen));
  }
  return mixed.add_(bias_n.narrow(0, 0, positions).unsqueeze(1));
}

}  // namespace

std::int64_t spatial_rows(const c10::Device& device, c10::ScalarType type) {
  const std::int64_t rows = spatial_kernel_rows(device, type);
  return rows > 0 ? rows : rows_of_product(device);
}

SpatialGate spatial_gate(const at::Tensor& gate_BTh, const at::Tensor& bypass_BTh,
                         const at::Tensor& weight_nn, const at::Tensor& bias_n, Mixing mixing, Keep keep) {
  if (!has_spatial_kernel(gate_BTh, weight_nn)) {
    const at::Tensor mixed = mixed_by_aten(gate_BTh, weight_nn, bias_n, mixing);
    const auto rows = [&](const at::Tensor& values) { return values.flatten(0, 1); };
    return {
        gate_forward(rows(bypass_BTh), rows(mixed), {}, gate_BTh.size(1)).view(gate_BTh.sizes()), mixed, {}};
  }
  SpatialGate out;
  out.gated_BTh = at::empty_like(gate_BTh);
  if (keep == Keep::kMixed) out.mixed_BTh = at::empty_like(gate_BTh);
  const SpatialPart whole = whole_part(gate_BTh, mixing);
  out.diagonal = spatial_diagonal(weight_nn, whole);
  device_spatial_gate({.gate = gate_BTh,
                       .weight_tn = weight_nn,
                       .diagonal = out.diagonal,
                       .bias_n = bias_n,
                       .bypass_Bth = bypass_BTh,
                       .mixed_Bth = out.mixed_BTh,
                       .gated_Bth = out.gated_BTh},
                      whole);
  return out;
}

at::Tensor spatial_input_gradient(const at::Tensor& dmixed_BTh, const at::Tensor& weight_nn,
                                  const at::Tensor& diagonal, Mixing mixing) {
  const std::int64_t positions = dmixed_BTh.size(1);
  at::Tensor dgate = at::empty_like(dmixed_BTh);
  if (has_spatial_kernel(dmixed_BTh, weight_nn)) {
    device_spatial_input_gradient(dgate, dmixed_BTh, weight_nn, diagonal, {}, whole_part(dmixed_BTh, mixing));
    return dgate;
  }
  const std::int64_t rows = rows_of_product(dmixed_BTh.device());
  for (std::int64_t first = 0; first < positions; first += rows) {
    const std::int64_t end = std::min(first + rows, positions);
    const std::int64_t from = mixing == Mixing::kCausal ? first : 0;
    const at::Tensor columns = weight_nn.narrow(0, from, positions - from).narrow(1, first, end - first);
    const at::Tensor weights = mixing == Mixing::kCausal ? at::tril(columns) : columns;
    multiply_rows(dgate, first, weights.t(), dmixed_BTh.narrow(1, from, positions - from));
  }
  return dgate;
}

void add_spatial_weight_gradient(const GradientSum& into, const at::Tensor& dmixed_BTh,
                                 const at::Tensor& gate_BTh, Mixing mixing) {
  const std::int64_t positions = gate_BTh.size(1);
  if (has_spatial_kernel(gate_BTh, into.sum)) {
    const bool writes_all = positions == into.sum.size(0);
    return add_device_spatial_weight_gradient(writes_all ? into : GradientSum{begun_sum(into)}, dmixed_BTh,
                                              gate_BTh, whole_part(gate_BTh, mixing));
  }
  const at::Tensor sum_nn = begun_sum(into);
  const std::int64_t rows = rows_of_product(gate_BTh.device());
  for (std::int64_t first = 0; first < positions; first += rows) {
    const std::int64_t end = std::min(first + rows, positions);
    const std::int64_t seen = seen_by(end, positions, mixing);
    const at::Tensor gradient = summed_products(dmixed_BTh.narrow(1, first, end - first),
                                                gate_BTh.narrow(1, 0, seen), sum_nn.scalar_type());
    sum_nn.narrow(0, first, end - first)
        .narrow(1, 0, seen)
        .add_(mixing == Mixing::kCausal ? at::tril(gradient, first) : gradient);
  }
}

}  // namespace sluice::kernels
