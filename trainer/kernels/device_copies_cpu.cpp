#include "trainer/kernels/device_copies.h"

namespace sluice::kernels {

void copy_sparing_cores(const at::Tensor& to, const at::Tensor& from) { to.copy_(from); }

}  // namespace sluice::kernels
