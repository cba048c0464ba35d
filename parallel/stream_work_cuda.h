#pragma once

#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAStream.h>
#include <cuda_runtime_api.h>

#include <mutex>
#include <vector>

#include "parallel/communicator.h"

// Included by nccl_communicator.cpp alone.
namespace sluice::parallel {

/// Events that only order streams, made once and used again: a stream that waits for one keeps the point it
/// marked, whatever it marks later.
class OrderEvents {
 public:
  OrderEvents() = default;
  ~OrderEvents() {
    for (const cudaEvent_t event : all_) cudaEventDestroy(event);
  }
  OrderEvents(const OrderEvents&) = delete;
  OrderEvents& operator=(const OrderEvents&) = delete;

  cudaEvent_t take() {
    const std::lock_guard lock(mutex_);
    if (free_.empty()) {
      cudaEvent_t event = nullptr;
      C10_CUDA_CHECK(cudaEventCreateWithFlags(&event, cudaEventDisableTiming));
      all_.push_back(event);
      free_.push_back(event);
    }
    const cudaEvent_t event = free_.back();
    free_.pop_back();
    return event;
  }

  void give_back(cudaEvent_t event) {
    const std::lock_guard lock(mutex_);
    free_.push_back(event);
  }

 private:
  std::mutex mutex_;
  std::vector<cudaEvent_t> all_;
  std::vector<cudaEvent_t> free_;
};

/// An exchange on the communicator's stream, and the event at its end.
class StreamHandle : public Work::Handle {
 public:
  StreamHandle(OrderEvents& events, cudaEvent_t end, c10::DeviceIndex device)
      : events_(events), end_(end), device_(device) {}
  ~StreamHandle() override { events_.give_back(end_); }
  StreamHandle(const StreamHandle&) = delete;
  StreamHandle& operator=(const StreamHandle&) = delete;

  [[nodiscard]] cudaEvent_t event() const { return end_; }
  bool test() override { return true; }
  void wait() override {
    C10_CUDA_CHECK(cudaStreamWaitEvent(c10::cuda::getCurrentCUDAStream(device_).stream(), end_, 0));
  }

 private:
  OrderEvents& events_;
  cudaEvent_t end_;
  c10::DeviceIndex device_;
};

}  // namespace sluice::parallel
