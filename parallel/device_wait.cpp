#include "parallel/device_wait.h"

#include <chrono>
#include <thread>
#include <utility>

namespace sluice::parallel {

void wait_for_event(const DeviceEvent& event, Communicator& communicator, std::string what) {
  using Clock = std::chrono::steady_clock;
  constexpr std::chrono::microseconds kPause{20};
  constexpr std::chrono::milliseconds kBetweenChecks{10};
  const auto waiting = communicator.blocking(std::move(what));
  for (auto checked = Clock::now(); !event.done(); std::this_thread::sleep_for(kPause)) {
    if (Clock::now() - checked < kBetweenChecks) continue;
    communicator.check();
    checked = Clock::now();
  }
}

}  // namespace sluice::parallel
