#include "trainer/cli/study_run.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <csignal>
#include <cstdio>
#include <filesystem>
#include <list>
#include <set>
#include <system_error>
#include <thread>

#include "trainer/cli/command.h"
#include "trainer/cli/study_claim.h"
#include "trainer/cli/study_job.h"
#include "trainer/train/signals.h"

namespace sluice::cli {
namespace {

namespace fs = std::filesystem;
using study::Role;
using study::Status;
using study::StudyRun;

constexpr auto kLook = std::chrono::milliseconds(50);

/// Tuning first, since other runs wait for it; then what takes longest.
double urgency(const StudyRun& one) {
  return one.run.role == Role::kTuning ? 1e30 + one.run.work() : one.run.work();
}

class StudyRunner {
 public:
  StudyRunner(const StudyPlace& place, StudyRunOptions options)
      : place_(place), options_(std::move(options)), cores_(std::thread::hardware_concurrency()) {}

  int run() {
    look();
    for (;;) {
      if (stopped_by_ == 0) fill();
      if (jobs_.empty()) break;
      std::this_thread::sleep_for(kLook);
      pass_on();
      reap();
    }
    look();
    return finish();
  }

 private:
  [[nodiscard]] bool chosen(const StudyRun& one) const {
    return options_.only.empty() || std::ranges::count(options_.only, one.run.id) > 0;
  }

  void look() {
    now_ = place_.look();
    if (options_.only.empty()) place_.write(now_);
  }

  [[nodiscard]] std::vector<StudyRun> startable() const {
    std::vector<StudyRun> all;
    for (const auto& one : now_.runs) {
      const bool waits = one.state.status == Status::kWaiting && !tried_.contains(one.run.id);
      if (waits && chosen(one) && may_start(one)) all.push_back(one);
    }
    std::ranges::stable_sort(all, std::ranges::greater{}, urgency);
    return all;
  }

  void fill() {
    if (static_cast<std::int64_t>(jobs_.size()) >= options_.jobs) return;
    auto waiting = startable();
    for (auto& one : waiting) {
      if (static_cast<std::int64_t>(jobs_.size()) < options_.jobs) start(std::move(one));
    }
    if (!waiting.empty()) look();
  }

  void start(StudyRun one) {
    fs::create_directories(one.directory);
    tried_.insert(one.run.id);
    auto claim = RunClaim::take(one.directory);
    if (!claim) return say("elsewhere", one, ": another process runs it");
    const bool batch = !options_.launch.empty();
    const auto threads = std::max<std::int64_t>(1, cores_ / (options_.jobs * one.run.ranks));
    JobPlace where{.slot = free_slot(),
                   .threads = batch ? 0 : threads,
                   .gpus = batch ? 0 : place_.spec().gpus,
                   .launch = options_.launch};
    say("started", one, "");
    jobs_.emplace_back(std::move(one), std::move(*claim), std::move(where), place_.version());
  }

  [[nodiscard]] std::int64_t free_slot() const {
    std::int64_t slot = 0;
    while (std::ranges::any_of(jobs_, [&](const StudyJob& job) { return job.slot() == slot; })) ++slot;
    return slot;
  }

  /// A signal of the user's goes to every child; in a batch job they have TERM already, and a second one
  /// would end them at once.
  void pass_on() {
    if (stopped_by_ != 0 || !signals_.requested()) return;
    stopped_by_ = signals_.first();
    const bool batch = !options_.launch.empty();
    if (batch && stopped_by_ != SIGUSR1) return;
    fmt::print("stopping: {} run(s) write a checkpoint\n", jobs_.size());
    std::fflush(stdout);
    for (const auto& job : jobs_) job.signal(batch ? SIGUSR1 : SIGTERM);
  }

  struct Ended {
    StudyRun run;
    JobEnd end = JobEnd::kStopped;
    double seconds = 0;
  };

  /// Takes away what has ended, and tells it.
  void reap() {
    std::vector<Ended> over;
    for (auto job = jobs_.begin(); job != jobs_.end();) {
      const auto end = job->poll(stopped_by_ != 0 ? StudyJob::Next::kStop : StudyJob::Next::kGoOn);
      if (end) {
        over.push_back({job->run(), *end, job->seconds()});
        job = jobs_.erase(job);
      } else {
        ++job;
      }
    }
    if (over.empty()) return;
    look();
    for (const auto& one : over) tell(one);
  }

  void tell(const Ended& over) {
    const auto& one = over.run;
    if (over.end == JobEnd::kStopped) {
      early_ = true;
      return say("stopped", one, "");
    }
    const auto state = study::read_run_state(one.run, one.directory, place_.version());
    if (over.end == JobEnd::kFailed) return say("failed", one, ": " + state.reason);
    const auto loss = std::isfinite(state.loss) ? fmt::format("loss {:.4f}, ", state.loss) : "";
    say("done", one, fmt::format(": {}{:.0f} s", loss, over.seconds));
  }

  void say(const char* what, const StudyRun& one, const std::string& more) const {
    const auto done =
        std::ranges::count_if(now_.runs, [](const StudyRun& run) { return is_finished(run.state.status); });
    fmt::print("[{}/{}] {:<8} {}  {}{}\n", done, static_cast<std::int64_t>(now_.runs.size()) + now_.undecided,
               what, one.run.id, one.run.title(), more);
    std::fflush(stdout);
  }

  int finish() {
    if (options_.only.empty()) place_.collect(now_);
    bool failed = false;
    bool waits = false;
    for (const auto& one : now_.runs) {
      if (!chosen(one)) continue;
      failed = failed || one.state.status == Status::kFailed;
      waits = waits || one.state.status == Status::kWaiting || one.state.status == Status::kRunning;
    }
    if (stopped_by_ != 0 || early_) return kStoppedEarly;
    if (failed) return kFault;
    return waits ? kStoppedEarly : kDone;
  }

  const StudyPlace& place_;
  StudyRunOptions options_;
  std::int64_t cores_;
  train::StopSignals signals_;
  StudySnapshot now_;
  std::list<StudyJob> jobs_;
  std::set<std::string> tried_;  ///< in this call: nothing is started twice
  int stopped_by_ = 0;
  bool early_ = false;
};

/// ID.1, or the first number that is free.
fs::path free_name(const std::string& directory) {
  for (std::int64_t i = 1;; ++i) {
    fs::path name = fmt::format("{}.{}", directory, i);
    if (!fs::exists(name)) return name;
  }
}

}  // namespace

int run_study(const StudyPlace& place, const StudyRunOptions& options) {
  return StudyRunner(place, options).run();
}

std::int64_t forget_failures(const StudyPlace& place) {
  std::int64_t count = 0;
  for (const auto& one : place.look().runs)
    if (one.state.status == Status::kFailed)
      count += fs::remove(fs::path(one.directory) / study::kFailedFile) ? 1 : 0;
  return count;
}

std::int64_t move_other_versions(const StudyPlace& place) {
  std::int64_t count = 0;
  for (const auto& one : place.look().runs) {
    if (one.state.status != Status::kOtherVersion) continue;
    fs::rename(one.directory, free_name(one.directory));
    ++count;
  }
  return count;
}

}  // namespace sluice::cli
