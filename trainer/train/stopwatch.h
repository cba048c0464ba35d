#pragma once

#include <chrono>
#include <utility>

namespace sluice::train {

/// Wall seconds between laps.
class Stopwatch {
 public:
  /// Since the lap before, or since it was made.
  double lap() {
    const auto now = std::chrono::steady_clock::now();
    return std::chrono::duration<double>(now - std::exchange(last_, now)).count();
  }

 private:
  std::chrono::steady_clock::time_point last_ = std::chrono::steady_clock::now();
};

}  // namespace sluice::train
