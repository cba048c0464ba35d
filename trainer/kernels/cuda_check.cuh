#pragma once

#include <cuda_runtime.h>

#include <stdexcept>
#include <string>

namespace sluice::kernels::launch {

/// Throws std::runtime_error if the launch just made was refused.
inline void check_launch(const char* kernel) {
  const cudaError_t error = cudaGetLastError();
  if (error != cudaSuccess) {
    throw std::runtime_error(std::string(kernel) + ": " + cudaGetErrorName(error) + ", " +
                             cudaGetErrorString(error));
  }
}

}  // namespace sluice::kernels::launch
