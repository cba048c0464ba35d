#include <ATen/ops/ones.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAFunctions.h>
#include <c10/cuda/CUDAGuard.h>
#include <cuda_runtime_api.h>
#include <nccl.h>

#include <array>
#include <cstdio>

#include "parallel/device_internal.h"

namespace sluice::parallel {
namespace {

std::string version_text(int number) {
  return number == 0 ? "" : std::to_string(number / 1000) + "." + std::to_string(number % 1000 / 10);
}

std::string uuid_text(const cudaUUID_t& uuid) {
  std::string text = "GPU-";
  for (std::size_t i = 0; i < sizeof(uuid.bytes); ++i) {
    std::array<char, 3> hex{};
    std::snprintf(hex.data(), hex.size(), "%02x", static_cast<unsigned char>(uuid.bytes[i]));
    text += (i == 4 || i == 6 || i == 8 || i == 10 ? "-" : "") + std::string(hex.data());
  }
  return text;
}

[[noreturn]] void refuse_gpu(const cudaDeviceProp& properties, const std::string& reason) {
  throw DeviceError(std::string("GPU ") + properties.name + " of compute capability " +
                    std::to_string(properties.major) + "." + std::to_string(properties.minor) + ": " +
                    reason);
}

}  // namespace

GpuView view_gpus() {
  int runtime = 0, driver = 0, count = 0;
  cudaRuntimeGetVersion(&runtime);
  cudaDriverGetVersion(&driver);
  const cudaError_t state = cudaGetDeviceCount(&count);
  cudaGetLastError();
  if (state == cudaSuccess) return {count, ""};
  if (driver == 0 || state == cudaErrorNoDevice) return {};  // no driver, or nothing for it
  if (state == cudaErrorInsufficientDriver)
    return {0, "the NVIDIA driver is for CUDA " + version_text(driver) +
                   " at most, this build needs one for CUDA " + version_text(runtime)};
  return {0, std::string("the NVIDIA driver does not answer: ") + cudaGetErrorString(state)};
}

GpuInfo gpu_info(at::Device device) {
  cudaDeviceProp properties{};
  C10_CUDA_CHECK(cudaGetDeviceProperties(&properties, device.index()));
  return {.name = properties.name,
          .uuid = uuid_text(properties.uuid),
          .capability = std::to_string(properties.major) + "." + std::to_string(properties.minor),
          .memory_bytes = static_cast<std::int64_t>(properties.totalGlobalMem)};
}

void wait_for_device(at::Device device) {
  if (device.is_cpu()) return;
  const c10::cuda::CUDAGuard guard(device);
  C10_CUDA_CHECK(cudaDeviceSynchronize());
}

void use_gpu(std::int64_t index) {
  const auto device = static_cast<c10::DeviceIndex>(index);
  cudaDeviceProp properties{};
  C10_CUDA_CHECK(cudaGetDeviceProperties(&properties, device));
#ifdef SLUICE_CUDA_ARCHITECTURES
  if (!has_code(SLUICE_CUDA_ARCHITECTURES, properties.major, properties.minor))
    refuse_gpu(properties, "this build's kernels are for " SLUICE_CUDA_ARCHITECTURES);
#endif
  try {
    c10::cuda::set_device(device);
    const at::Tensor one = at::ones({1}, at::TensorOptions().dtype(at::kFloat).device(at::kCUDA, device));
    if (one.item<float>() != 1.0F) refuse_gpu(properties, "it computes wrongly");
  } catch (const c10::Error& error) {
    cudaGetLastError();
    refuse_gpu(properties, std::string("LibTorch cannot compute on it: ") + error.what_without_backtrace());
  }
}

DeviceReport report_devices() {
  DeviceReport report;
  report.built_with_cuda = true;
  int number = 0;
  if (cudaRuntimeGetVersion(&number) == cudaSuccess) report.cuda_runtime = version_text(number);
  number = 0;
  if (cudaDriverGetVersion(&number) == cudaSuccess) report.cuda_driver = version_text(number);
  if (ncclGetVersion(&number) == ncclSuccess)
    report.nccl = std::to_string(number / 10000) + "." + std::to_string(number / 100 % 100) + "." +
                  std::to_string(number % 100);
  int count = 0;
  if (cudaGetDeviceCount(&count) != cudaSuccess) count = 0;
  for (int index = 0; index < count; ++index) {
    cudaDeviceProp properties{};
    if (cudaGetDeviceProperties(&properties, index) == cudaSuccess) report.gpus.emplace_back(properties.name);
  }
  cudaGetLastError();  // a machine without a driver is no fault: leave no sticky error behind
  return report;
}

}  // namespace sluice::parallel
