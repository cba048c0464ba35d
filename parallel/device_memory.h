#pragma once

#include <c10/core/Device.h>

#include <cstdint>

namespace sluice::parallel {

/// Highest memory use since the start of the process or the last reset_peak_memory(), in bytes. Of a GPU:
/// what the caching allocator gave out (allocated), and what it took from the driver (reserved; graphs
/// included), each with what count_device_memory() told. Of the CPU: the resident set of the process, in
/// both.
struct DeviceMemory {
  std::int64_t allocated_peak = 0;
  std::int64_t reserved_peak = 0;
};

/// Bytes of this process's GPU that were taken beside the caching allocator (negative: given back): they are
/// in both figures from then on. Any thread.
void count_device_memory(std::int64_t bytes);

/// Of this process on `device`. Does not wait for the device.
[[nodiscard]] DeviceMemory peak_memory(const c10::Device& device);

/// Peaks count from now on. The CPU's go on.
void reset_peak_memory(const c10::Device& device);

}  // namespace sluice::parallel
