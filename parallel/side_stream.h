#pragma once

#include <c10/core/Device.h>

#include <functional>
#include <memory>

namespace sluice::parallel {

/// A stream beside the one that computes. One header, two sources: side_stream_cuda.cpp, and
/// side_stream_cpu.cpp for builds without CUDA. For the CPU it runs things at once.
class SideStream {
 public:
  explicit SideStream(at::Device device);
  ~SideStream();
  SideStream(SideStream&&) noexcept;
  SideStream& operator=(SideStream&&) noexcept;

  /// Enqueues what `work` enqueues on the current stream on this one instead, after what the current stream
  /// holds. Host and current stream do not wait. Can be captured if join() follows within the capture.
  void run(const std::function<void()>& work);
  /// The same, but after nothing that the current stream holds: what it needs `work` itself waits for.
  void run_apart(const std::function<void()>& work);
  /// The current stream waits for all that was run.
  void join();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace sluice::parallel
