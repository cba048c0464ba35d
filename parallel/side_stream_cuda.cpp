#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <cuda_runtime_api.h>

#include "parallel/side_stream.h"

namespace sluice::parallel {

struct SideStream::Impl {
  explicit Impl(at::Device on)
      : device(on), stream(c10::cuda::getStreamFromPool(/*isHighPriority=*/true, on.index())) {
    const c10::cuda::CUDAGuard guard(device);
    C10_CUDA_CHECK(cudaEventCreateWithFlags(&begin, cudaEventDisableTiming));
    C10_CUDA_CHECK(cudaEventCreateWithFlags(&end, cudaEventDisableTiming));
  }
  ~Impl() {
    cudaEventDestroy(begin);
    cudaEventDestroy(end);
  }
  Impl(const Impl&) = delete;
  Impl& operator=(const Impl&) = delete;

  [[nodiscard]] cudaStream_t current() const {
    return c10::cuda::getCurrentCUDAStream(device.index()).stream();
  }

  at::Device device;
  c10::cuda::CUDAStream stream;
  cudaEvent_t begin = nullptr;
  cudaEvent_t end = nullptr;
};

SideStream::SideStream(at::Device device)
    : impl_(device.is_cuda() ? std::make_unique<Impl>(device) : nullptr) {}
SideStream::~SideStream() = default;
SideStream::SideStream(SideStream&&) noexcept = default;
SideStream& SideStream::operator=(SideStream&&) noexcept = default;

void SideStream::run(const std::function<void()>& work) {
  if (!impl_) return work();
  C10_CUDA_CHECK(cudaEventRecord(impl_->begin, impl_->current()));
  C10_CUDA_CHECK(cudaStreamWaitEvent(impl_->stream.stream(), impl_->begin, 0));
  run_apart(work);
}

void SideStream::run_apart(const std::function<void()>& work) {
  if (!impl_) return work();
  const c10::cuda::CUDAStreamGuard guard(impl_->stream);
  work();
  C10_CUDA_CHECK(cudaEventRecord(impl_->end, impl_->stream.stream()));
}

void SideStream::join() {
  if (impl_) C10_CUDA_CHECK(cudaStreamWaitEvent(impl_->current(), impl_->end, 0));
}

}  // namespace sluice::parallel
