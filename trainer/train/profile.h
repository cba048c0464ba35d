#pragma once

#include <c10/core/Device.h>

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>

namespace sluice::train {

/// Which steps of a process a profile records: a few, after those that warm up.
struct ProfilePlan {
  std::filesystem::path file;  ///< a Chrome trace (JSON): Perfetto, TensorBoard and chrome://tracing open it
  std::int64_t skip = 10;      ///< steps of this process before the first that is recorded
  std::int64_t steps = 3;
};

/// This rank's file of a profile asked for by `name`: with the rank in place of {rank}, or of rank 0 alone
/// where there is no {rank} in it. None for an empty name.
[[nodiscard]] std::optional<std::filesystem::path> profile_file(const std::string& name, std::int64_t rank);

/// Records what host and device do during a few steps: operators, the program's TraceRanges, kernels and
/// copies (those of graph replays too) through LibTorch's profiler, and writes one file. One at a time in a
/// process.
class Profile {
 public:
  /// Throws InputError where the file cannot be written: better now than after the steps.
  Profile(ProfilePlan plan, const c10::Device& device);
  /// A recording that has not ended is dropped.
  ~Profile();
  Profile(const Profile&) = delete;
  Profile& operator=(const Profile&) = delete;

  /// Before each step is begun, from the thread that steps: starts, and ends, the recording where it is time.
  void before_step();
  /// After the last step: ends a recording that is going on. A process of fewer steps than plan.skip writes
  /// none.
  void finish();
  [[nodiscard]] bool written() const { return state_ == State::kWritten; }

 private:
  enum class State { kWaiting, kPrepared, kRecording, kWritten };
  void end_recording();

  ProfilePlan plan_;
  c10::Device device_;
  State state_ = State::kWaiting;
  std::int64_t begun_ = 0;  ///< steps of this process
};

}  // namespace sluice::train
