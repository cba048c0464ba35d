#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "parallel/communicator.h"

namespace sluice::parallel {

/// An operation that this rank has blocked in for longer than the limit.
struct HangReport {
  std::string operation;
  std::chrono::duration<double> age{};
  std::int64_t rank = 0;
  std::int64_t size = 1;
  std::vector<std::int64_t> missing;  ///< ranks known not to have started it; empty where nothing is known

  /// One line for a person.
  [[nodiscard]] std::string text() const;
};

struct WatchdogOptions {
  std::chrono::milliseconds limit = std::chrono::minutes(10);  ///< 0: off
  int exit_code = 1;
};

/// A thread that ends the job when this rank blocks in one operation of `communicator` for longer than the
/// limit: it calls `report` (from its thread; libraries do not print), then Communicator::abort. Neither may
/// throw anything that matters: the abort follows all the same.
class Watchdog {
 public:
  Watchdog(Communicator& communicator, WatchdogOptions options,
           std::function<void(const HangReport&)> report);
  /// Stops watching.
  ~Watchdog();
  Watchdog(const Watchdog&) = delete;
  Watchdog& operator=(const Watchdog&) = delete;

 private:
  void watch();
  void end_job(const PendingOperation& operation, std::chrono::duration<double> age);

  Communicator& communicator_;
  WatchdogOptions options_;
  std::function<void(const HangReport&)> report_;
  std::mutex mutex_;
  std::condition_variable stopped_;
  bool stop_ = false;
  std::thread thread_;
};

}  // namespace sluice::parallel
