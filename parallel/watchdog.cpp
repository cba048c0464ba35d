#include "parallel/watchdog.h"

#include <c10/util/Exception.h>

#include <algorithm>
#include <exception>
#include <sstream>
#include <utility>

namespace sluice::parallel {

std::string HangReport::text() const {
  if (!fault.empty()) return "rank " + std::to_string(rank) + "/" + std::to_string(size) + ": " + fault;
  std::ostringstream line;
  line.precision(1);
  line << std::fixed << "rank " << rank << "/" << size << " has waited " << age.count() << " s in "
       << operation;
  if (missing.empty()) {
    line << "; which ranks did not arrive is not known";
  } else {
    line << "; not arrived: rank" << (missing.size() > 1 ? "s" : "");
    for (std::size_t index = 0; index < missing.size(); ++index)
      line << (index > 0 ? ", " : " ") << missing[index];
  }
  return line.str();
}

Watchdog::Watchdog(Communicator& communicator, WatchdogOptions options,
                   std::function<void(const HangReport&)> report)
    : communicator_(communicator), options_(options), report_(std::move(report)) {
  TORCH_CHECK(options_.limit.count() >= 0, "watchdog: a limit is at least 0 ms, got ",
              options_.limit.count());
  if (options_.limit.count() > 0) thread_ = std::thread([this] { watch(); });
}

Watchdog::~Watchdog() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  stopped_.notify_all();
  if (thread_.joinable()) thread_.join();
}

void Watchdog::watch() {
  const auto interval =
      std::clamp(options_.limit / 10, std::chrono::milliseconds(1), std::chrono::milliseconds(100));
  std::unique_lock lock(mutex_);
  while (!stopped_.wait_for(lock, interval, [this] { return stop_; })) {
    const auto operation = communicator_.pending();
    if (!operation) continue;
    const auto age = std::chrono::steady_clock::now() - operation->since;
    const std::string fault = fault_of_group();
    if (age < options_.limit && fault.empty()) continue;
    lock.unlock();
    end_job(*operation, age, fault);
    return;
  }
}

std::string Watchdog::fault_of_group() const {
  try {
    communicator_.check();
    return "";
  } catch (const std::exception& error) {
    return error.what();
  }
}

void Watchdog::end_job(const PendingOperation& operation, std::chrono::duration<double> age,
                       const std::string& fault) {
  try {
    report_({operation.name, age, communicator_.rank(), communicator_.size(),
             communicator_.missing_ranks(operation), fault});
  } catch (...) {  // NOLINT(bugprone-empty-catch): a report that fails must not keep the job hanging
  }
  try {
    communicator_.abort(options_.exit_code);
  } catch (
      ...) {  // NOLINT(bugprone-empty-catch): thread ranks end by throwing, here and in the ranks they wake
  }
}

}  // namespace sluice::parallel
