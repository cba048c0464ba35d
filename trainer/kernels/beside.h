#pragma once

#include <c10/core/Event.h>
#include <c10/core/StreamGuard.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include <functional>
#include <vector>

namespace sluice::kernels {

/// Work on streams of a GPU beside the current one.
class Beside {
 public:
  explicit Beside(at::Device device) : device_(device), streams_(device.type()) {}

  /// After what the current stream holds. Tensors that `work` makes and leaves belong to its stream: make
  /// those that outlive it before.
  void add(const std::function<void()>& work) {
    c10::Event begun(device_.type());
    begun.record(streams_.getStream(device_));
    const c10::StreamGuard guard(streams_.getStreamFromGlobalPool(device_));
    begun.block(guard.current_stream());
    work();
    ended_.emplace_back(device_.type()).record(guard.current_stream());
  }
  /// The current stream waits for all of it.
  void join() {
    for (const c10::Event& event : ended_) event.block(streams_.getStream(device_));
  }

 private:
  at::Device device_;
  c10::impl::VirtualGuardImpl streams_;
  std::vector<c10::Event> ended_;
};

}  // namespace sluice::kernels
