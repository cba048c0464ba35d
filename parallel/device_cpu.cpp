#include <c10/util/Exception.h>

#include "parallel/device_internal.h"

namespace sluice::parallel {

DeviceReport report_devices() { return {}; }

GpuView view_gpus() { return {}; }

GpuInfo gpu_info(at::Device device) {
  TORCH_CHECK(false, "gpu_info: this build has no CUDA sources, got device ", device);
}

void wait_for_device(at::Device device) {
  TORCH_CHECK(device.is_cpu(), "wait_for_device: this build has no CUDA sources, got device ", device);
}

void use_gpu(std::int64_t index) {
  TORCH_CHECK(false, "use_gpu: this build has no CUDA sources, got GPU ", index);
}

}  // namespace sluice::parallel
