#include "parallel/device_stream.h"

#include <ATen/ops/empty.h>
#include <c10/util/Exception.h>

#include <new>

namespace sluice::parallel {
namespace {

[[noreturn]] void refuse() { TORCH_CHECK(false, "this build has no CUDA sources"); }

}  // namespace

struct DeviceEvent::Impl {};
struct DeviceGraph::Impl {};

void enter_device(at::Device device) {
  if (!device.is_cpu()) refuse();
}

std::shared_ptr<void> pinned_bytes(std::size_t bytes) {
  return {::operator new(bytes), [](void* memory) { ::operator delete(memory); }};
}

at::Tensor pinned_empty(at::IntArrayRef sizes, at::ScalarType dtype) {
  return at::empty(sizes, at::TensorOptions().dtype(dtype));
}

void copy_to_device(const at::Tensor& /*to*/, const void* /*from*/, std::size_t /*bytes*/) { refuse(); }
void copy_to_host(const at::Tensor& /*to*/, const at::Tensor& /*from*/) { refuse(); }

DeviceEvent::DeviceEvent() { refuse(); }
DeviceEvent::~DeviceEvent() = default;
DeviceEvent::DeviceEvent(DeviceEvent&&) noexcept = default;
DeviceEvent& DeviceEvent::operator=(DeviceEvent&&) noexcept = default;
void DeviceEvent::record() { refuse(); }
void DeviceEvent::block_stream() const { refuse(); }
bool DeviceEvent::done() const { refuse(); }
double DeviceEvent::seconds_since(const DeviceEvent& /*earlier*/) const { refuse(); }

DeviceGraph::DeviceGraph() { refuse(); }
DeviceGraph::~DeviceGraph() = default;
void DeviceGraph::capture(const std::function<void(const std::function<void()>&)>& /*work*/,
                          const DeviceGraph* /*neighbour*/) {
  refuse();
}
bool DeviceGraph::captured() const { refuse(); }
void DeviceGraph::replay(std::vector<DeviceEvent*> /*events*/) { refuse(); }

void release_cached_memory() { refuse(); }

}  // namespace sluice::parallel
