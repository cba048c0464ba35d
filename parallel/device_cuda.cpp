#include "parallel/device.h"

#include <cuda_runtime_api.h>
#include <nccl.h>

namespace sluice::parallel {
namespace {

std::string version_text(int number) {
  return number == 0 ? "" : std::to_string(number / 1000) + "." + std::to_string(number % 1000 / 10);
}

}  // namespace

DeviceReport report_devices() {
  DeviceReport report;
  report.built_with_cuda = true;
  int number = 0;
  if (cudaRuntimeGetVersion(&number) == cudaSuccess) report.cuda_runtime = version_text(number);
  number = 0;
  if (cudaDriverGetVersion(&number) == cudaSuccess) report.cuda_driver = version_text(number);
  if (ncclGetVersion(&number) == ncclSuccess)
    report.nccl = std::to_string(number / 10000) + "." + std::to_string(number / 100 % 100) + "." +
                  std::to_string(number % 100);
  int count = 0;
  if (cudaGetDeviceCount(&count) != cudaSuccess) count = 0;
  for (int index = 0; index < count; ++index) {
    cudaDeviceProp properties{};
    if (cudaGetDeviceProperties(&properties, index) == cudaSuccess) report.gpus.emplace_back(properties.name);
  }
  cudaGetLastError();  // a machine without a driver is no fault: leave no sticky error behind
  return report;
}

}  // namespace sluice::parallel
