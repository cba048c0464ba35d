#include <ATen/cuda/CUDAContext.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <c10/cuda/CUDAStream.h>
#include <c10/util/Exception.h>

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

launch::SpatialShape shape_of(const at::Tensor& values_BTh, const at::Tensor& square_nn, Mixing mixing) {
  TORCH_CHECK(values_BTh.is_contiguous() && values_BTh.dim() == 3 && on_16_bytes(values_BTh) &&
                  square_nn.dim() == 2 && square_nn.stride(1) == 1 &&
                  square_nn.size(0) >= values_BTh.size(1) && square_nn.size(1) >= values_BTh.size(1),
              "spatial product: values ", values_BTh.sizes(), " with strides ", values_BTh.strides(), ", W ",
              square_nn.sizes(), " with strides ", square_nn.strides());
  return {.batch = values_BTh.size(0),
          .positions = values_BTh.size(1),
          .width = values_BTh.size(2),
          .weight_stride = square_nn.stride(0),
          .triangle = mixing == Mixing::kCausal ? launch::Triangle::kLower : launch::Triangle::kNone};
}

const void* address_or_null(const at::Tensor& tensor) {
  return tensor.defined() ? tensor.const_data_ptr() : nullptr;
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

at::Tensor spatial_diagonal(const at::Tensor& weight_nn, std::int64_t positions, Mixing mixing) {
  if (mixing == Mixing::kFull) return {};
  const std::int64_t tiles = (positions + launch::kSpatialTile - 1) / launch::kSpatialTile;
  at::Tensor diagonal = at::empty({tiles * launch::kSpatialTile, launch::kSpatialTile},
                                  weight_nn.options().requires_grad(false));
  launch::SpatialShape shape;
  shape.positions = positions;
  shape.weight_stride = weight_nn.stride(0);
  launch::spatial_diagonal(weight_nn.const_data_ptr(), shape, diagonal.mutable_data_ptr(),
                           spatial_stream(weight_nn));
  return diagonal;
}

void device_spatial_gate(const at::Tensor& gate_BTh, const at::Tensor& bypass_BTh,
                         const at::Tensor& weight_nn, const at::Tensor& diagonal, const at::Tensor& bias_n,
                         Mixing mixing, const at::Tensor& mixed_BTh, const at::Tensor& gated_BTh) {
  const launch::SpatialShape shape = shape_of(gate_BTh, weight_nn, mixing);
  const std::int64_t row = bypass_BTh.stride(1);
  TORCH_CHECK(bypass_BTh.sizes() == gate_BTh.sizes() && bypass_BTh.stride(2) == 1 && row % kVector == 0 &&
                  bypass_BTh.stride(0) == row * shape.positions && on_16_bytes(bypass_BTh),
              "spatial gate: bypass ", bypass_BTh.sizes(), " with strides ", bypass_BTh.strides(), ", gate ",
              gate_BTh.sizes());
  launch::spatial_forward({.weight = weight_nn.const_data_ptr(),
                           .diagonal = address_or_null(diagonal),
                           .input = gate_BTh.const_data_ptr(),
                           .bias = bias_n.const_data_ptr(),
                           .bypass = bypass_BTh.const_data_ptr(),
                           .bypass_stride = row,
                           .mixed = mixed_BTh.defined() ? mixed_BTh.mutable_data_ptr() : nullptr,
                           .gated = gated_BTh.mutable_data_ptr()},
                          shape, spatial_stream(gate_BTh));
}

at::Tensor device_spatial_input_gradient(const at::Tensor& dmixed_BTh, const at::Tensor& weight_nn,
                                         const at::Tensor& diagonal, Mixing mixing) {
  const launch::SpatialShape shape = shape_of(dmixed_BTh, weight_nn, mixing);
  at::Tensor dgate = at::empty_like(dmixed_BTh);
  launch::spatial_input_gradient({.weight = weight_nn.const_data_ptr(),
                                  .diagonal = address_or_null(diagonal),
                                  .gradient = dmixed_BTh.const_data_ptr(),
                                  .input = dgate.mutable_data_ptr()},
                                 shape, spatial_stream(dmixed_BTh));
  return dgate;
}

void add_device_spatial_weight_gradient(const at::Tensor& sum_nn, const at::Tensor& dmixed_BTh,
                                        const at::Tensor& gate_BTh, Mixing mixing) {
  const launch::SpatialShape shape = shape_of(gate_BTh, sum_nn, mixing);
  TORCH_CHECK(dmixed_BTh.is_contiguous() && dmixed_BTh.sizes() == gate_BTh.sizes() &&
                  sum_nn.scalar_type() == at::kFloat,
              "spatial weight gradient: gradient ", dmixed_BTh.sizes(), ", gate ", gate_BTh.sizes(),
              ", sum of ", sum_nn.scalar_type());
  const at::Tensor partials =
      at::empty({launch::spatial_partials(shape)}, sum_nn.options().requires_grad(false));
  launch::spatial_weight_gradient({.gradient = dmixed_BTh.const_data_ptr(),
                                   .input = gate_BTh.const_data_ptr(),
                                   .sum = sum_nn.mutable_data_ptr<float>(),
                                   .partials = partials.mutable_data_ptr<float>()},
                                  shape, spatial_stream(gate_BTh));
}

}  // namespace sluice::kernels
