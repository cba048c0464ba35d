#pragma once

#include <memory>

namespace sluice::parallel {

/// Names what this thread does, from construction to destruction: an NVTX range for NVIDIA's tools (in a CUDA
/// build), and a range of a trace where one is being recorded (train/profile.h). Nests. Costs nanoseconds
/// when nobody looks. Names as the field has them: "step", "data", "forward", "backward", "all_reduce",
/// "optimizer".
class TraceRange {
 public:
  /// `name` is copied.
  explicit TraceRange(const char* name);
  ~TraceRange();
  TraceRange(const TraceRange&) = delete;
  TraceRange& operator=(const TraceRange&) = delete;

 private:
  struct Recorded;
  std::unique_ptr<Recorded> recorded_;  ///< null while no trace is recorded
};

}  // namespace sluice::parallel
