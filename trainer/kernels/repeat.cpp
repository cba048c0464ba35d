#include "trainer/kernels/repeat.h"

#include <c10/core/CachingDeviceAllocator.h>
#include <c10/core/Event.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include <algorithm>
#include <chrono>

namespace sluice::kernels {
namespace {

double seconds_on_host(const std::function<void()>& work) {
  const auto start = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

/// Each repetition between two events of the device's current stream, so that none waits for the host.
std::vector<double> seconds_on_device(const std::function<void()>& work, std::int64_t repetitions,
                                      const c10::Device& device) {
  const c10::impl::VirtualGuardImpl guard(device.type());
  const c10::Stream stream = guard.getStream(device);
  std::vector<c10::Event> marks;
  for (std::int64_t i = 0; i <= repetitions; ++i)
    marks.emplace_back(device.type(), c10::EventFlag::BACKEND_DEFAULT);
  marks[0].record(stream);
  for (std::size_t i = 1; i < marks.size(); ++i) {
    work();
    marks[i].record(stream);
  }
  marks.back().synchronize();
  std::vector<double> seconds;
  for (std::size_t i = 1; i < marks.size(); ++i) seconds.push_back(1e-3 * marks[i - 1].elapsedTime(marks[i]));
  return seconds;
}

}  // namespace

std::vector<double> repeat(const std::function<void()>& work, const c10::Device& device,
                           const RepeatBudget& budget) {
  const auto measure = [&](std::int64_t repetitions) {
    if (!device.is_cpu()) return seconds_on_device(work, repetitions, device);
    std::vector<double> seconds;
    for (std::int64_t i = 0; i < repetitions; ++i) seconds.push_back(seconds_on_host(work));
    return seconds;
  };
  (void)measure(1);  // loads the library's code for this shape
  const double once = measure(1).front();
  const double wanted = std::min(budget.seconds / std::max(once, 1e-9), static_cast<double>(budget.most));
  if (budget.head_start) budget.head_start();
  auto seconds = measure(std::max(budget.least, static_cast<std::int64_t>(wanted)));
  std::sort(seconds.begin(), seconds.end());
  return seconds;
}

void release_memory(const c10::Device& device) {
  if (!device.is_cpu()) c10::getDeviceAllocator(device.type())->emptyCache();
}

}  // namespace sluice::kernels
