#pragma once

#include <chrono>
#include <cstdint>
#include <string>

namespace sluice::cli {

/// "257", "12.3k", "4.56M", "7.89G": powers of 1000.
[[nodiscard]] std::string short_count(double value);
/// "1,234,567"
[[nodiscard]] std::string full_count(std::int64_t value);
/// "512 B", "1.5 KiB", "27.09 GiB".
[[nodiscard]] std::string byte_text(std::int64_t bytes);
/// "0:02:05"
[[nodiscard]] std::string clock_text(double seconds);

/// Whether a line on this stream can be rewritten in place: it is a terminal. A launcher gives its ranks
/// terminals of its own, whatever it writes to itself: launch/mpirun.sh says so in SLUICE_PROGRESS ("place"
/// or "lines"), and under a bare mpirun the answer is no.
[[nodiscard]] bool can_rewrite_lines(int stream);

/// How far a long step is, on the standard error stream: one line with a bar and the time left, rewritten in
/// place on a terminal; elsewhere a plain line every few seconds.
class ProgressBar {
 public:
  ProgressBar();
  ~ProgressBar();
  ProgressBar(const ProgressBar&) = delete;
  ProgressBar& operator=(const ProgressBar&) = delete;

  /// `phase` in a few words; a new one starts its own clock.
  void update(const std::string& phase, std::int64_t done, std::int64_t total);

 private:
  using Clock = std::chrono::steady_clock;
  [[nodiscard]] std::string line(std::int64_t done, std::int64_t total) const;
  void end_phase();

  bool on_terminal_;
  std::string phase_;
  std::int64_t done_ = 0;
  std::int64_t total_ = 0;
  Clock::time_point phase_start_;
  Clock::time_point last_shown_;
};

}  // namespace sluice::cli
