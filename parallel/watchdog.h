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
  std::string fault;                  ///< what Communicator::check() says; empty where the limit was passed

  /// One line for a person.
  [[nodiscard]] std::string text() const;
};

struct WatchdogOptions {
  std::chrono::milliseconds limit = std::chrono::minutes(10);  ///< 0: off
  int exit_code = 1;
};

/// A thread that ends the job when this rank blocks in one operation of `communicator` for longer than the
/// limit, or blocks at all while check() says that the group has met a fault (the rank itself may be stuck in
/// a driver's call): it calls `report` (from its thread; libraries do not print), then Communicator::abort.
/// Neither may throw anything that matters: the abort follows all the same.
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
  [[nodiscard]] std::string fault_of_group() const;
  void end_job(const PendingOperation& operation, std::chrono::duration<double> age,
               const std::string& fault);

  Communicator& communicator_;
  WatchdogOptions options_;
  std::function<void(const HangReport&)> report_;
  std::mutex mutex_;
  std::condition_variable stopped_;
  bool stop_ = false;
  std::thread thread_;
};

}  // namespace sluice::parallel
