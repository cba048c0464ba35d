#pragma once

#include <cuda_runtime.h>

#include <stdexcept>
#include <string>

namespace sluice::kernels::launch {

/// Throws std::runtime_error unless the call named `what` succeeded.
inline void check_cuda(cudaError_t error, const char* what) {
  if (error != cudaSuccess) {
    throw std::runtime_error(std::string(what) + ": " + cudaGetErrorName(error) + ", " +
                             cudaGetErrorString(error));
  }
}

/// Throws std::runtime_error if the launch just made was refused.
inline void check_launch(const char* kernel) { check_cuda(cudaGetLastError(), kernel); }

}  // namespace sluice::kernels::launch
