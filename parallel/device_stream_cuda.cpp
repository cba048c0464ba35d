#include "parallel/device_stream.h"

#include <ATen/cuda/CUDAGraph.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/from_blob.h>
#include <c10/cuda/CUDACachingAllocator.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAFunctions.h>
#include <c10/cuda/CUDAStream.h>
#include <c10/util/Exception.h>
#include <cuda_runtime_api.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "parallel/graph_nodes_cuda.h"

namespace sluice::parallel {
namespace {

cudaStream_t current_stream() { return c10::cuda::getCurrentCUDAStream().stream(); }

std::size_t bytes_of(const at::Tensor& tensor) { return static_cast<std::size_t>(tensor.nbytes()); }

}  // namespace

void enter_device(at::Device device) {
  if (device.is_cpu()) return;
  c10::cuda::set_device(device.index());
  c10::cuda::setCurrentCUDAStream(c10::cuda::getStreamFromPool(/*isHighPriority=*/false, device.index()));
}

std::shared_ptr<void> pinned_bytes(std::size_t bytes) {
  int devices = 0;
  if (cudaGetDeviceCount(&devices) != cudaSuccess ||
      devices == 0) {  // a CUDA build on a machine without a GPU
    cudaGetLastError();
    return {::operator new(bytes), [](void* memory) { ::operator delete(memory); }};
  }
  void* memory = nullptr;
  C10_CUDA_CHECK(cudaHostAlloc(&memory, std::max<std::size_t>(bytes, 1), cudaHostAllocDefault));
  return {memory, [](void* pointer) { cudaFreeHost(pointer); }};
}

at::Tensor pinned_empty(at::IntArrayRef sizes, at::ScalarType dtype) {
  const std::int64_t count = c10::multiply_integers(sizes);
  auto memory = pinned_bytes(static_cast<std::size_t>(count) * c10::elementSize(dtype));
  void* const data = memory.get();
  return at::from_blob(
      data, sizes, [memory = std::move(memory)](void* /*data*/) {}, at::TensorOptions().dtype(dtype));
}

void copy_to_device(const at::Tensor& to, const void* from, std::size_t bytes) {
  TORCH_CHECK(to.is_contiguous() && bytes_of(to) == bytes, "copy_to_device: ", bytes,
              " bytes to a tensor of ", to.nbytes());
  C10_CUDA_CHECK(cudaMemcpyAsync(to.data_ptr(), from, bytes, cudaMemcpyHostToDevice, current_stream()));
}

void copy_to_host(const at::Tensor& to, const at::Tensor& from) {
  TORCH_CHECK(to.is_contiguous() && from.is_contiguous() && to.nbytes() == from.nbytes(),
              "copy_to_host: ", from.nbytes(), " bytes to a tensor of ", to.nbytes());
  C10_CUDA_CHECK(cudaMemcpyAsync(to.data_ptr(), from.data_ptr(), bytes_of(from), cudaMemcpyDeviceToHost,
                                 current_stream()));
}

struct DeviceEvent::Impl {
  Impl() { C10_CUDA_CHECK(cudaEventCreate(&event)); }
  ~Impl() { cudaEventDestroy(event); }
  Impl(const Impl&) = delete;
  Impl& operator=(const Impl&) = delete;

  cudaEvent_t event = nullptr;
};

DeviceEvent::DeviceEvent() : impl_(std::make_unique<Impl>()) {}
DeviceEvent::~DeviceEvent() = default;
DeviceEvent::DeviceEvent(DeviceEvent&&) noexcept = default;
DeviceEvent& DeviceEvent::operator=(DeviceEvent&&) noexcept = default;

void DeviceEvent::record() { C10_CUDA_CHECK(cudaEventRecord(impl_->event, current_stream())); }

void DeviceEvent::block_stream() const {
  cudaStreamCaptureStatus status{};
  C10_CUDA_CHECK(cudaStreamIsCapturing(current_stream(), &status));
  const bool captures = status == cudaStreamCaptureStatusActive;
  C10_CUDA_CHECK(cudaStreamWaitEvent(current_stream(), impl_->event,
                                     captures ? cudaEventWaitExternal : cudaEventWaitDefault));
}

bool DeviceEvent::done() const {
  const cudaError_t state = cudaEventQuery(impl_->event);
  if (state == cudaErrorNotReady) {
    cudaGetLastError();
    return false;
  }
  C10_CUDA_CHECK(state);
  return true;
}

double DeviceEvent::seconds_since(const DeviceEvent& earlier) const {
  float milliseconds = 0;
  C10_CUDA_CHECK(cudaEventElapsedTime(&milliseconds, earlier.impl_->event, impl_->event));
  return 1e-3 * static_cast<double>(milliseconds);
}

struct DeviceGraph::Impl {
  at::cuda::CUDAGraph graph{/*keep_graph=*/true};
  std::vector<std::unique_ptr<DeviceEvent>> marks;  ///< the events that were captured, in their order
  std::vector<cudaGraphNode_t> nodes;               ///< that record them
  bool captured = false;

  /// The node of each mark: replay() gives it another event each time, so that a replay may begin while the
  /// times of the one before have not been read.
  void find_nodes() {
    nodes.assign(marks.size(), nullptr);
    for (const cudaGraphNode_t node : nodes_of(graph.raw_cuda_graph(), cudaGraphNodeTypeEventRecord)) {
      cudaEvent_t event = nullptr;
      C10_CUDA_CHECK(cudaGraphEventRecordNodeGetEvent(node, &event));
      for (std::size_t i = 0; i < marks.size(); ++i)
        if (marks[i]->impl_->event == event) nodes[i] = node;
    }
    TORCH_CHECK(std::find(nodes.begin(), nodes.end(), nullptr) == nodes.end(),
                "a mark of the captured work is not in its graph");
  }
};

DeviceGraph::DeviceGraph() : impl_(std::make_unique<Impl>()) {}
DeviceGraph::~DeviceGraph() = default;

void DeviceGraph::capture(const std::function<void(const std::function<void()>&)>& work,
                          const DeviceGraph* neighbour) {
  const at::cuda::MempoolId_t pool =
      neighbour == nullptr ? at::cuda::MempoolId_t{0, 0} : neighbour->impl_->graph.pool();
  impl_->graph.capture_begin(pool, cudaStreamCaptureModeThreadLocal);
  work([this] {
    impl_->marks.push_back(std::make_unique<DeviceEvent>());
    C10_CUDA_CHECK(cudaEventRecordWithFlags(impl_->marks.back()->impl_->event, current_stream(),
                                            cudaEventRecordExternal));
  });
  impl_->graph.capture_end();
  fill_by_kernels(impl_->graph.raw_cuda_graph());
  impl_->find_nodes();
  for (const cudaGraphNode_t node : impl_->nodes) unchain(impl_->graph.raw_cuda_graph(), node);
  impl_->graph.instantiate();
  impl_->captured = true;
}

bool DeviceGraph::captured() const { return impl_->captured; }

void DeviceGraph::replay(std::vector<DeviceEvent*> events) {
  TORCH_CHECK(events.size() == impl_->nodes.size(), "the graph has ", impl_->nodes.size(),
              " marks, given are ", events.size(), " events");
  for (std::size_t i = 0; i < events.size(); ++i)
    C10_CUDA_CHECK(cudaGraphExecEventRecordNodeSetEvent(impl_->graph.raw_cuda_graph_exec(), impl_->nodes[i],
                                                        events[i]->impl_->event));
  impl_->graph.replay();
}

void release_cached_memory() {
  C10_CUDA_CHECK(cudaDeviceSynchronize());
  c10::cuda::CUDACachingAllocator::emptyCache();
}

}  // namespace sluice::parallel
