#include "parallel/device_memory.h"

#include <c10/core/CachingDeviceAllocator.h>
#include <sys/resource.h>

#include <atomic>

namespace sluice::parallel {
namespace {

constexpr std::size_t kAllPools = 0;  ///< index of a statistic over small and large blocks together

std::atomic<std::int64_t> beside_the_allocator = 0;

std::int64_t peak_resident_bytes() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return static_cast<std::int64_t>(usage.ru_maxrss) * 1024;  // Linux counts KiB
}

}  // namespace

DeviceMemory peak_memory(const c10::Device& device) {
  if (device.is_cpu()) return {peak_resident_bytes(), peak_resident_bytes()};
  const auto stats = c10::getDeviceAllocator(device.type())->getDeviceStats(device.index());
  const std::int64_t beside = beside_the_allocator;
  return {stats.allocated_bytes[kAllPools].peak + beside, stats.reserved_bytes[kAllPools].peak + beside};
}

void count_device_memory(std::int64_t bytes) { beside_the_allocator += bytes; }

void reset_peak_memory(const c10::Device& device) {
  if (!device.is_cpu()) c10::getDeviceAllocator(device.type())->resetPeakStats(device.index());
}

}  // namespace sluice::parallel
