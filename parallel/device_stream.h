#pragma once

#include <ATen/core/Tensor.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

// What a step needs of a GPU's runtime: its stream, events, page-locked memory, captured graphs. One header,
// two sources: device_stream_cuda.cpp; in device_stream_cpu.cpp, for builds without CUDA, all but the memory
// throws c10::Error. "The current stream" is the calling thread's.
namespace sluice::parallel {

/// From here on this thread computes on `device`, on a stream that can be captured (CUDA's default one
/// cannot).
void enter_device(at::Device device);

/// Page-locked host memory, so that copies to and from a device need not wait; ordinary memory without CUDA.
/// Allocate it before a graph is captured.
[[nodiscard]] std::shared_ptr<void> pinned_bytes(std::size_t bytes);
[[nodiscard]] at::Tensor pinned_empty(at::IntArrayRef sizes, at::ScalarType dtype);

/// Copies `bytes` on the current stream without waiting; page-locked memory on the host's side, both alive
/// until the stream has come past.
void copy_to_device(const at::Tensor& to, const void* from, std::size_t bytes);
void copy_to_host(const at::Tensor& to, const at::Tensor& from);

/// A point of the current stream's work.
class DeviceEvent {
 public:
  DeviceEvent();
  ~DeviceEvent();
  DeviceEvent(DeviceEvent&&) noexcept;
  DeviceEvent& operator=(DeviceEvent&&) noexcept;

  void record();
  /// The current stream goes on once the device has come past what was recorded last; at once if nothing
  /// was. Captured in a graph, that holds for every replay: of what was recorded before it.
  void block_stream() const;
  /// True when the device has come past it, or it was never recorded.
  [[nodiscard]] bool done() const;
  /// Seconds of the device between two events that are done.
  [[nodiscard]] double seconds_since(const DeviceEvent& earlier) const;

 private:
  friend class DeviceGraph;
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

/// Work on the current stream that is captured once and then replayed whole: one launch instead of thousands.
/// What it reads and writes stays where it was at capture. Work of other streams belongs to it if it was
/// ordered after and before the current stream's by events.
class DeviceGraph {
 public:
  DeviceGraph();
  ~DeviceGraph();
  DeviceGraph(const DeviceGraph&) = delete;
  DeviceGraph& operator=(const DeviceGraph&) = delete;

  /// Records what `work` does without doing it. It calls `mark` between its phases, the same number of times
  /// whenever it is run. Other threads may go on using the device meanwhile. `neighbour`: a captured graph
  /// that is never replayed at the same time and goes at the same time: the two share their memory.
  void capture(const std::function<void(const std::function<void()>& mark)>& work,
               const DeviceGraph* neighbour = nullptr);
  [[nodiscard]] bool captured() const;
  /// Enqueues the work on the current stream; the i-th mark records events[i].
  void replay(std::vector<DeviceEvent*> events);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

/// Waits for the device and gives back the memory that its allocator keeps for nobody.
void release_cached_memory();

}  // namespace sluice::parallel
