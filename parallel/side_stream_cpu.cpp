#include <c10/util/Exception.h>

#include "parallel/side_stream.h"

namespace sluice::parallel {

struct SideStream::Impl {};

SideStream::SideStream(at::Device device) {
  TORCH_CHECK(device.is_cpu(), "SideStream: this build has no CUDA sources, got device ", device);
}
SideStream::~SideStream() = default;
SideStream::SideStream(SideStream&&) noexcept = default;
SideStream& SideStream::operator=(SideStream&&) noexcept = default;

void SideStream::run(const std::function<void()>& work) { work(); }
void SideStream::run_apart(const std::function<void()>& work) { work(); }
void SideStream::join() {}

}  // namespace sluice::parallel
