#pragma once

#include <string>

// What tools beside the program know a GPU and a time range by. One header, two sources: gpu_tools_cpu.cpp,
// gpu_tools_cuda.cpp, chosen by CMake.
namespace sluice::parallel {

/// "0000:3B:00.0" of the GPU that CUDA gives this index; empty where there is none. Never throws.
[[nodiscard]] std::string pci_bus_id(int index);

/// NVTX ranges of the calling thread; nothing without CUDA. Use TraceRange.
void push_nvtx_range(const char* name);
void pop_nvtx_range();

}  // namespace sluice::parallel
