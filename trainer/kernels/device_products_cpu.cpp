#include "trainer/kernels/device_products.h"

#include <c10/util/Exception.h>

namespace sluice::kernels {

bool try_linear(const at::Tensor& /*y*/, const at::Tensor& /*x*/, const at::Tensor& /*w*/,
                const at::Tensor& /*bias*/) {
  return false;
}
bool try_linear_input_gradient(const at::Tensor& /*dx*/, const at::Tensor& /*dy*/, const at::Tensor& /*w*/) {
  return false;
}
bool try_linear_weight_gradient(const GradientSum& /*sum_oi*/, const at::Tensor& /*dy*/,
                                const at::Tensor& /*x*/) {
  return false;
}

bool try_fp8_linear(const at::Tensor& /*y*/, const Fp8Operand& /*x*/, const Fp8Operand& /*w*/,
                    const at::Tensor& /*bias*/) {
  return false;
}

std::int64_t product_library() { return 0; }

ProductRecording::ProductRecording() = default;
ProductRecording::~ProductRecording() = default;
std::vector<ProductProblem> ProductRecording::problems() { return {}; }

std::vector<TunedProduct> tune_products(const std::vector<ProductProblem>& /*problems*/,
                                        at::Device /*device*/) {
  TORCH_CHECK(false, "this build has no CUDA sources");
}

void install_products(const ProductTable& /*table*/) {}

}  // namespace sluice::kernels
