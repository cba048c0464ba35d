#include "trainer/kernels/spatial.h"

#include <ATen/ops/bmm.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/sum.h>
#include <ATen/ops/tril.h>

#include <algorithm>
#include <functional>

#include "trainer/kernels/device_spatial.h"
#include "trainer/kernels/fused_passes.h"
#include "trainer/kernels/host_products.h"
#include "trainer/kernels/toeplitz.h"
#include "trainer/kernels/toeplitz_strips.h"

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

bool has_kernel(const at::Tensor& values_BTh, const at::Tensor& weight) {
  return !is_toeplitz(weight) && has_spatial_kernel(values_BTh, weight);
}

/// Of W[:T, :T], or of its transpose, the rows [first, end) that one product takes, and of their columns
/// those that it reads: zero where a causal one is masked.
using RowBlocks = std::function<at::Tensor(std::int64_t first, std::int64_t end)>;

RowBlocks blocks_of(const at::Tensor& weight, const at::Tensor& values_BTh, Mixing mixing,
                    ToeplitzStrip::Of of) {
  const std::int64_t positions = values_BTh.size(1);
  const bool causal = mixing == Mixing::kCausal;
  if (is_toeplitz(weight)) {
    return [strip = ToeplitzStrip(weight, positions, rows_of_product(values_BTh.device()), mixing, of)](
               std::int64_t first, std::int64_t end) { return strip.block(first, end); };
  }
  if (of == ToeplitzStrip::Of::kMatrix) {
    return [=](std::int64_t first, std::int64_t end) {
      const at::Tensor rows = weight.narrow(0, first, end - first).narrow(1, 0, causal ? end : positions);
      return causal ? at::tril(rows, first) : rows;
    };
  }
  return [=](std::int64_t first, std::int64_t end) {
    const std::int64_t from = causal ? first : 0;
    const at::Tensor columns = weight.narrow(0, from, positions - from).narrow(1, first, end - first);
    return (causal ? at::tril(columns) : columns).t();
  };
}

/// Calls `visit(first, end)` for all positions.
template <typename Visit>
void for_each_block(const at::Tensor& values_BTh, const Visit& visit) {
  const std::int64_t positions = values_BTh.size(1);
  const std::int64_t rows = rows_of_product(values_BTh.device());
  for (std::int64_t first = 0; first < positions; first += rows)
    visit(first, std::min(first + rows, positions));
}

/// Adds the gradient of rows [first, ..) and columns [0, ..) of W.
using AddRows = std::function<void(std::int64_t first, const at::Tensor& gradient_rs)>;

void add_gradients(const AddRows& add, at::ScalarType type, const at::Tensor& dmixed_BTh,
                   const at::Tensor& gate_BTh, Mixing mixing) {
  for_each_block(gate_BTh, [&](std::int64_t first, std::int64_t end) {
    const std::int64_t seen = mixing == Mixing::kCausal ? end : gate_BTh.size(1);
    add(first, summed_products(dmixed_BTh.narrow(1, first, end - first), gate_BTh.narrow(1, 0, seen), type));
  });
}

}  // namespace

std::int64_t spatial_rows(const c10::Device& device, c10::ScalarType type, SpatialKind kind) {
  const std::int64_t rows = kind == SpatialKind::kFree ? spatial_kernel_rows(device, type) : 0;
  return rows > 0 ? rows : rows_of_product(device);
}

at::Tensor spatial_product(const at::Tensor& gate_BTh, const at::Tensor& weight, Mixing mixing) {
  at::Tensor mixed = at::empty_like(gate_BTh);
  const RowBlocks blocks = blocks_of(weight, gate_BTh, mixing, ToeplitzStrip::Of::kMatrix);
  for_each_block(gate_BTh, [&](std::int64_t first, std::int64_t end) {
    const at::Tensor rows = blocks(first, end);
    multiply_rows(mixed, first, rows, gate_BTh.narrow(1, 0, rows.size(1)));
  });
  return mixed;
}

SpatialGate spatial_gate(const at::Tensor& gate_BTh, const at::Tensor& bypass_BTh, const at::Tensor& weight,
                         const at::Tensor& bias_n, Mixing mixing, Keep keep) {
  if (!has_kernel(gate_BTh, weight)) {
    at::Tensor mixed = spatial_product(gate_BTh, weight, mixing);
    mixed.add_(bias_n.narrow(0, 0, gate_BTh.size(1)).unsqueeze(1));
    const auto rows = [&](const at::Tensor& values) { return values.flatten(0, 1); };
    return {
        gate_forward(rows(bypass_BTh), rows(mixed), {}, gate_BTh.size(1)).view(gate_BTh.sizes()), mixed, {}};
  }
  SpatialGate out;
  out.gated_BTh = at::empty_like(gate_BTh);
  if (keep == Keep::kMixed) out.mixed_BTh = at::empty_like(gate_BTh);
  const SpatialPart whole = whole_part(gate_BTh, mixing);
  out.diagonal = spatial_diagonal(weight, whole);
  device_spatial_gate({.gate = gate_BTh,
                       .weight_tn = weight,
                       .diagonal = out.diagonal,
                       .bias_n = bias_n,
                       .bypass_Bth = bypass_BTh,
                       .mixed_Bth = out.mixed_BTh,
                       .gated_Bth = out.gated_BTh},
                      whole);
  return out;
}

at::Tensor spatial_input_gradient(const at::Tensor& dmixed_BTh, const at::Tensor& weight,
                                  const at::Tensor& diagonal, Mixing mixing) {
  const std::int64_t positions = dmixed_BTh.size(1);
  at::Tensor dgate = at::empty_like(dmixed_BTh);
  if (has_kernel(dmixed_BTh, weight)) {
    device_spatial_input_gradient(dgate, dmixed_BTh, weight, diagonal, {}, whole_part(dmixed_BTh, mixing));
    return dgate;
  }
  const RowBlocks blocks = blocks_of(weight, dmixed_BTh, mixing, ToeplitzStrip::Of::kTranspose);
  for_each_block(dmixed_BTh, [&](std::int64_t first, std::int64_t end) {
    const at::Tensor rows = blocks(first, end);
    const std::int64_t seen = rows.size(1);  // to the last one
    multiply_rows(dgate, first, rows, dmixed_BTh.narrow(1, positions - seen, seen));
  });
  return dgate;
}

void add_spatial_weight_gradient(const GradientSum& into, const at::Tensor& dmixed_BTh,
                                 const at::Tensor& gate_BTh, Mixing mixing) {
  const std::int64_t positions = gate_BTh.size(1);
  if (has_kernel(gate_BTh, into.sum)) {
    const bool writes_all = positions == into.sum.size(0);
    return add_device_spatial_weight_gradient(writes_all ? into : GradientSum{begun_sum(into)}, dmixed_BTh,
                                              gate_BTh, whole_part(gate_BTh, mixing));
  }
  const at::Tensor sum = begun_sum(into);
  if (is_toeplitz(sum)) {
    ToeplitzGradient gradient(positions, rows_of_product(gate_BTh.device()), mixing, sum);
    add_gradients([&](std::int64_t first, const at::Tensor& rows) { gradient.add(first, rows); },
                  sum.scalar_type(), dmixed_BTh, gate_BTh, mixing);
    return gradient.add_to(sum);
  }
  const auto add = [&](std::int64_t first, const at::Tensor& rows) {
    sum.narrow(0, first, rows.size(0))
        .narrow(1, 0, rows.size(1))
        .add_(mixing == Mixing::kCausal ? at::tril(rows, first) : rows);
  };
  add_gradients(add, sum.scalar_type(), dmixed_BTh, gate_BTh, mixing);
}

}  // namespace sluice::kernels
