#include "parallel/gpu_tools.h"

#include <cuda_runtime_api.h>
#include <nvtx3/nvToolsExt.h>

#include <array>

namespace sluice::parallel {

std::string pci_bus_id(int index) {
  std::array<char, 32> text{};
  if (cudaDeviceGetPCIBusId(text.data(), static_cast<int>(text.size()), index) == cudaSuccess)
    return text.data();
  cudaGetLastError();  // a machine without a driver is no fault: leave no sticky error behind
  return {};
}

void push_nvtx_range(const char* name) { nvtxRangePushA(name); }
void pop_nvtx_range() { nvtxRangePop(); }

}  // namespace sluice::parallel
