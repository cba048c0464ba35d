#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace sluice::parallel {

/// What this build and this machine can compute on. One header, two sources: device_cpu.cpp, device_cuda.cpp,
/// chosen by CMake.
struct DeviceReport {
  bool built_with_cuda = false;
  std::string cuda_runtime;       ///< "13.0", empty without
  std::string cuda_driver;        ///< empty without a driver
  std::string nccl;               ///< "2.28.9", as found at run time
  std::vector<std::string> gpus;  ///< names of visible GPUs
};

/// Never throws for a machine without a GPU: the lists are empty then.
[[nodiscard]] DeviceReport report_devices();

}  // namespace sluice::parallel
