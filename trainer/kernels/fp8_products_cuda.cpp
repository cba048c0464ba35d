#include <ATen/cuda/CUDAContextLight.h>
#include <ATen/ops/empty.h>
#include <c10/cuda/CUDAStream.h>
#include <c10/util/Exception.h>

#include "trainer/kernels/cuda_fp8_launch.h"
#include "trainer/kernels/device_products.h"
#include "trainer/kernels/fp8_products.h"

namespace sluice::kernels {
namespace {

cudaStream_t fp8_stream(const at::Tensor& x) {
  return c10::cuda::getCurrentCUDAStream(x.device().index()).stream();
}

void check_fp8_operand(const char* product, const at::Tensor& x) {
  constexpr std::int64_t kMultiple = launch::kFp8Elements;
  TORCH_CHECK(x.is_cuda() && x.scalar_type() == at::kBFloat16 && x.dim() == 2 && x.is_contiguous() &&
                  x.numel() > 0 && x.size(1) % kMultiple == 0 &&
                  reinterpret_cast<std::uintptr_t>(x.const_data_ptr()) % kMultiple == 0,
              product, ": an operand is ", x.sizes(), " of ", x.scalar_type(), " on ", x.device(),
              "; expected is contiguous bfloat16 on a GPU, its rows of a multiple of ", kMultiple);
}

at::Tensor magnitudes(const at::Tensor& x) {
  const at::Tensor partials = at::empty({launch::kFp8Partials}, x.options().dtype(at::kInt));
  launch::largest_magnitudes(x.const_data_ptr(), x.numel(),
                             static_cast<unsigned*>(partials.mutable_data_ptr()), fp8_stream(x));
  return partials;
}

const unsigned* bits_of(const at::Tensor& partials) {
  return static_cast<const unsigned*>(partials.const_data_ptr());
}

Fp8Operand quantised(const at::Tensor& x, launch::Fp8 format) {
  const auto type = format == launch::Fp8::kE4m3 ? at::kFloat8_e4m3fn : at::kFloat8_e5m2;
  Fp8Operand out{at::empty(x.sizes(), x.options().dtype(type).requires_grad(false)),
                 at::empty({1}, x.options().dtype(at::kFloat).requires_grad(false))};
  const at::Tensor partials = magnitudes(x);
  launch::quantise(x.const_data_ptr(), x.numel(), bits_of(partials), format, out.values.mutable_data_ptr(),
                   out.unit.mutable_data_ptr<float>(), fp8_stream(x));
  return out;
}

Fp8Operand quantised_transpose(const at::Tensor& x) {
  Fp8Operand out{
      at::empty({x.size(1), x.size(0)}, x.options().dtype(at::kFloat8_e4m3fn).requires_grad(false)),
      at::empty({1}, x.options().dtype(at::kFloat).requires_grad(false))};
  const at::Tensor partials = magnitudes(x);
  launch::quantise_transposed(x.const_data_ptr(), x.size(0), x.size(1), bits_of(partials),
                              out.values.mutable_data_ptr(), out.unit.mutable_data_ptr<float>(),
                              fp8_stream(x));
  return out;
}

at::Tensor result_of(const char* product, const at::Tensor& like, const Fp8Operand& x, const Fp8Operand& w,
                     const at::Tensor& bias) {
  const at::Tensor y = at::empty({x.values.size(0), w.values.size(0)}, like.options().requires_grad(false));
  TORCH_CHECK(try_fp8_linear(y, x, w, bias), product, ": the library has no algorithm for ", x.values.sizes(),
              " and ", w.values.sizes());
  return y;
}

}  // namespace

bool has_fp8_products(at::Device device) {
  if (!device.is_cuda()) return false;
  const cudaDeviceProp* const properties = at::cuda::getDeviceProperties(device.index());
  return properties->major > 8 || (properties->major == 8 && properties->minor >= 9);
}

at::Tensor fp8_linear(const at::Tensor& x, const at::Tensor& w, const at::Tensor& bias) {
  check_fp8_operand("fp8_linear", x);
  check_fp8_operand("fp8_linear", w);
  TORCH_CHECK(x.size(1) == w.size(1) && w.size(0) % launch::kFp8Elements == 0, "fp8_linear: ", x.sizes(),
              " and weight ", w.sizes());
  return result_of("fp8_linear", x, quantised(x, launch::Fp8::kE4m3), quantised(w, launch::Fp8::kE4m3), bias);
}

at::Tensor fp8_linear_input_gradient(const at::Tensor& dy, const at::Tensor& w) {
  check_fp8_operand("fp8_linear_input_gradient", dy);
  check_fp8_operand("fp8_linear_input_gradient", w);
  TORCH_CHECK(dy.size(1) == w.size(0), "fp8_linear_input_gradient: ", dy.sizes(), " and weight ", w.sizes());
  return result_of("fp8_linear_input_gradient", dy, quantised(dy, launch::Fp8::kE5m2), quantised_transpose(w),
                   {});
}

}  // namespace sluice::kernels
