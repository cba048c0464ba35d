#include <c10/util/Exception.h>

#include "trainer/kernels/dropout_kernel.h"

namespace sluice::kernels {

void dropout_kernel(const at::Tensor& /*x*/, const at::Tensor& /*y*/, const at::Tensor& /*samples_B*/,
                    std::uint64_t /*seed*/, std::uint32_t /*site*/, std::uint32_t /*threshold*/,
                    double /*scale*/) {
  TORCH_CHECK(false, "this build has no CUDA sources");
}

}  // namespace sluice::kernels
