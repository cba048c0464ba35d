#include <c10/util/Exception.h>

#include "parallel/nccl_communicator.h"

namespace sluice::parallel {

std::unique_ptr<Communicator> make_nccl_communicator(Communicator& /*host*/, at::Device device,
                                                     NcclOptions /*options*/) {
  TORCH_CHECK(false, "make_nccl_communicator: this build has no CUDA sources, got device ", device);
}
std::unique_ptr<Communicator> make_nccl_communicator(std::unique_ptr<Communicator> host, at::Device device,
                                                     NcclOptions options) {
  return make_nccl_communicator(*host, device, options);
}

}  // namespace sluice::parallel
