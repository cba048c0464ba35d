#include <ATen/cuda/CUDAContext.h>
#include <ATen/ops/empty.h>
#include <c10/cuda/CUDAStream.h>
#include <c10/util/Exception.h>

#include <algorithm>

#include "trainer/kernels/cuda_spatial_launch.h"
#include "trainer/kernels/device_spatial.h"

namespace sluice::kernels {
namespace {

constexpr std::int64_t kVector = 8;  // bfloat16 elements of 16 bytes

bool on_16_bytes(const at::Tensor& tensor) {
  return reinterpret_cast<std::uintptr_t>(tensor.const_data_ptr()) % 16 == 0;
}

cudaStream_t spatial_stream(const at::Tensor& tensor) {
  return c10::cuda::getCurrentCUDAStream(tensor.device().index()).stream();
}

launch::Sum launched(SpatialSum sum) {
  switch (sum) {
    case SpatialSum::kWhole:
      return launch::Sum::kWhole;
    case SpatialSum::kFirst:
      return launch::Sum::kFirst;
    case SpatialSum::kFurther:
      return launch::Sum::kFurther;
    case SpatialSum::kLast:
      return launch::Sum::kLast;
  }
  TORCH_CHECK(false, "a sum of value ", static_cast<int>(sum));
}

launch::Before launched(Before before) {
  return before == Before::kNothing ? launch::Before::kNothing : launch::Before::kSum;
}

void add_strip(launch::SpatialStrips& strips, const Strip& strip, std::int64_t outer, SpatialSum sum) {
  if (strip.range.count() <= 0) return;
  TORCH_CHECK(strips.count < launch::kMostStrips, "spatial product: more than ", launch::kMostStrips,
              " strips");
  strips.of[strips.count++] = {.begin = static_cast<int>(strip.range.begin),
                               .count = static_cast<int>(strip.range.count()),
                               .row = static_cast<int>(strip.row),
                               .outer = static_cast<int>(outer),
                               .sum = launched(sum)};
}

/// One past the last row that strips name.
std::int64_t rows_named(const launch::SpatialStrips& strips) {
  std::int64_t rows = 0;
  for (int i = 0; i < strips.count; ++i)
    rows = std::max<std::int64_t>(rows, strips.of[i].row + strips.of[i].count);
  return rows;
}

void check_values(const at::Tensor& values, std::int64_t outer, std::int64_t rows, std::int64_t width) {
  TORCH_CHECK(values.is_contiguous() && values.dim() == 3 && on_16_bytes(values) && values.size(0) >= outer &&
                  values.size(1) >= rows && values.size(2) == width && width % kVector == 0,
              "spatial product: values ", values.sizes(), " with strides ", values.strides(), " for ", rows,
              " rows of ", width, " in ", outer, " sequences");
}

/// Of tensors of own and seen rows, and W [.., n].
launch::SpatialShape shape_of(const at::Tensor& own, const at::Tensor& seen, const at::Tensor& square,
                              const SpatialPart& part) {
  launch::SpatialShape shape;
  shape.batch = part.batch;
  shape.positions = part.positions;
  shape.width = seen.size(2);
  shape.weight_stride = square.stride(0);
  shape.triangle = part.mixing == Mixing::kCausal ? launch::Triangle::kLower : launch::Triangle::kNone;
  constexpr int kTilesBeside = 2;
  shape.block_tiles = part.runs_beside ? kTilesBeside : 0;
  for (std::size_t i = 0; i < part.own.size(); ++i)
    add_strip(shape.own, part.own[i], 0, part.sums.empty() ? SpatialSum::kWhole : part.sums[i]);
  for (const SeenStrip& seen_strip : part.seen)
    add_strip(shape.seen, seen_strip.strip, seen_strip.outer, SpatialSum::kWhole);
  shape.own_rows = own.size(1);
  shape.seen_rows = seen.size(1);
  shape.seen_outer = seen.size(0);
  check_values(own, part.batch, rows_named(shape.own), shape.width);
  check_values(seen, part.batch, rows_named(shape.seen), shape.width);
  TORCH_CHECK(square.dim() == 2 && square.stride(1) == 1 && square.size(0) >= shape.own_rows &&
                  square.size(1) >= part.positions,
              "spatial product: W ", square.sizes(), " with strides ", square.strides(), " for ",
              shape.own_rows, " rows of ", part.positions, " positions");
  return shape;
}

bool is_empty(const launch::SpatialShape& shape) { return shape.own.count == 0 || shape.seen.count == 0; }

const void* address_or_null(const at::Tensor& tensor) {
  return tensor.defined() ? tensor.const_data_ptr() : nullptr;
}
void* written_or_null(const at::Tensor& tensor) {
  return tensor.defined() ? tensor.mutable_data_ptr() : nullptr;
}

}  // namespace

std::int64_t spatial_kernel_rows(const c10::Device& device, c10::ScalarType type) {
  if (!device.is_cuda() || type != at::kBFloat16 || at::cuda::device_count() == 0) return 0;
  const cudaDeviceProp& properties = device.has_index() ? *at::cuda::getDeviceProperties(device.index())
                                                        : *at::cuda::getCurrentDeviceProperties();
  return properties.major == 9 && properties.minor == 0 ? launch::kSpatialTile : 0;
}

bool has_spatial_kernel(const at::Tensor& values_BTh, const at::Tensor& square_nn) {
  return spatial_kernel_rows(values_BTh.device(), values_BTh.scalar_type()) > 0 &&
         values_BTh.size(2) % kVector == 0 && square_nn.stride(1) == 1 &&
         square_nn.stride(0) % kVector == 0 && on_16_bytes(values_BTh) && on_16_bytes(square_nn);
}

bool has_spatial_kernel(const std::vector<Strip>& strips) {
  return std::ranges::all_of(strips, [](const Strip& strip) {
    return strip.range.count() == 0 ||
           (strip.range.begin % launch::kSpatialTile == 0 && strip.row % launch::kSpatialTile == 0);
  });
}

SpatialPart whole_part(const at::Tensor& values_BTh, Mixing mixing) {
  const Strip all{{0, values_BTh.size(1)}, 0};
  return {.own = {all},
          .sums = {},
          .seen = {{all, 0}},
          .batch = values_BTh.size(0),
          .positions = values_BTh.size(1),
          .mixing = mixing,
          .runs_beside = false};
}

at::Tensor spatial_diagonal(const at::Tensor& weight_tn, const SpatialPart& part) {
  if (part.mixing == Mixing::kFull) return {};
  launch::SpatialShape shape;
  for (const Strip& strip : part.own) add_strip(shape.own, strip, 0, SpatialSum::kWhole);
  shape.own_rows = rows_named(shape.own);
  shape.weight_stride = weight_tn.stride(0);
  const std::int64_t tiles = (shape.own_rows + launch::kSpatialTile - 1) / launch::kSpatialTile;
  at::Tensor diagonal = at::empty({tiles * launch::kSpatialTile, launch::kSpatialTile},
                                  weight_tn.options().requires_grad(false));
  launch::spatial_diagonal(weight_tn.const_data_ptr(), shape, diagonal.mutable_data_ptr(),
                           spatial_stream(weight_tn));
  return diagonal;
}

void device_spatial_gate(const SpatialGateTensors& t, const SpatialPart& part) {
  const at::Tensor& own = t.gated_Bth.defined() ? t.gated_Bth : t.mixed_Bth;
  const launch::SpatialShape shape = shape_of(own, t.gate, t.weight_tn, part);
  if (is_empty(shape)) return;
  const std::int64_t row = t.bypass_Bth.defined() ? t.bypass_Bth.stride(1) : 0;
  TORCH_CHECK(!t.bypass_Bth.defined() ||
                  (t.bypass_Bth.sizes() == own.sizes() && t.bypass_Bth.stride(2) == 1 && row % kVector == 0 &&
                   t.bypass_Bth.stride(0) == row * own.size(1) && on_16_bytes(t.bypass_Bth)),
              "spatial gate: bypass ", t.bypass_Bth.defined() ? t.bypass_Bth.sizes() : at::IntArrayRef(),
              ", own rows ", own.sizes());
  launch::spatial_forward({.weight = t.weight_tn.const_data_ptr(),
                           .diagonal = address_or_null(t.diagonal),
                           .input = t.gate.const_data_ptr(),
                           .bias = address_or_null(t.bias_n),
                           .bypass = address_or_null(t.bypass_Bth),
                           .bypass_stride = row,
                           .mixed = written_or_null(t.mixed_Bth),
                           .gated = written_or_null(t.gated_Bth)},
                          shape, spatial_stream(t.gate));
}

void device_spatial_input_gradient(const at::Tensor& dgate, const at::Tensor& dmixed_Bth,
                                   const at::Tensor& weight_tn, const at::Tensor& diagonal,
                                   const at::Tensor& added_Brh, const SpatialPart& part) {
  const launch::SpatialShape shape = shape_of(dmixed_Bth, dgate, weight_tn, part);
  if (is_empty(shape)) return;
  TORCH_CHECK(!added_Brh.defined() || (added_Brh.is_contiguous() && on_16_bytes(added_Brh) &&
                                       added_Brh.size(0) == part.batch && added_Brh.size(2) == shape.width),
              "spatial input gradient: added is not [", part.batch, ", .., ", shape.width,
              "], contiguous from 16 bytes on");
  launch::spatial_input_gradient({.weight = weight_tn.const_data_ptr(),
                                  .diagonal = address_or_null(diagonal),
                                  .gradient = dmixed_Bth.const_data_ptr(),
                                  .added = address_or_null(added_Brh),
                                  .added_rows = added_Brh.defined() ? added_Brh.size(1) : 0,
                                  .input = dgate.mutable_data_ptr()},
                                 shape, spatial_stream(dmixed_Bth));
}

void add_device_spatial_weight_gradient(const GradientSum& into, const at::Tensor& dmixed_Bth,
                                        const at::Tensor& gate, const SpatialPart& part) {
  const at::Tensor& sum_tn = into.sum;
  const launch::SpatialShape shape = shape_of(dmixed_Bth, gate, sum_tn, part);
  if (is_empty(shape)) return;
  TORCH_CHECK(sum_tn.scalar_type() == at::kFloat, "spatial weight gradient: sum of ", sum_tn.scalar_type());
  const at::Tensor partials =
      at::empty({launch::spatial_partials(shape)}, sum_tn.options().requires_grad(false));
  launch::spatial_weight_gradient({.gradient = dmixed_Bth.const_data_ptr(),
                                   .input = gate.const_data_ptr(),
                                   .sum = sum_tn.mutable_data_ptr<float>(),
                                   .before = launched(into.before),
                                   .partials = partials.mutable_data_ptr<float>()},
                                  shape, spatial_stream(gate));
}

}  // namespace sluice::kernels
