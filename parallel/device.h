#pragma once

#include <c10/core/Device.h>

#include <cstdint>
#include <stdexcept>
#include <string>
#include <vector>

#include "parallel/communicator.h"

namespace sluice::parallel {

/// What this build and this machine can compute on. One header, two sources: device_cpu.cpp, device_cuda.cpp,
/// chosen by CMake.
struct DeviceReport {
  bool built_with_cuda = false;
  std::string cuda_runtime;       ///< "13.0", empty without
  std::string cuda_driver;        ///< empty without a driver
  std::string nccl;               ///< "2.28.9", as found at run time
  std::vector<std::string> gpus;  ///< names of visible GPUs
};

/// Never throws for a machine without a GPU: the lists are empty then.
[[nodiscard]] DeviceReport report_devices();

/// The user asked for a device that this job cannot have: exit code 2.
class DeviceError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

struct GpuInfo {
  std::string name;
  std::string uuid;        ///< "GPU-8a56a4bc-...", as nvidia-smi writes it
  std::string capability;  ///< "9.0"
  std::int64_t memory_bytes = 0;
};

/// Of a CUDA device with an index.
[[nodiscard]] GpuInfo gpu_info(at::Device device);
/// What records and reports call it: "NVIDIA H200", or "cpu".
[[nodiscard]] std::string device_name(at::Device device);

/// Waits until the device has done all that it was given; nothing to wait for on the CPU.
void wait_for_device(at::Device device);

/// Where this rank is among those of its host: MPI's answer, which must agree with what Open MPI's launcher
/// or srun told the process; else DeviceError, naming both. Collective.
[[nodiscard]] Place find_place(Communicator& world);

enum class DeviceChoice { kAuto, kCpu, kCuda };

/// The device of this rank, made the thread's current one. Collective; on all ranks either a CPU or a GPU.
/// kAuto: a GPU where the build has CUDA sources and every rank sees one, else the CPU. A rank that sees one
/// GPU takes it, otherwise the one with its local rank as index. Throws DeviceError, on the ranks that have
/// no fault of their own PeerError: no GPU or too few of them, a driver older than the build's CUDA, a GPU
/// that the build has no code for, two ranks on one GPU. Environment SLUICE_SHARE_GPU=1 allows the last, for
/// tests: indices wrap around, and NCCL takes such ranks only when each has another NCCL_HOSTID.
[[nodiscard]] at::Device choose_device(DeviceChoice choice, const Place& place, Communicator& world);

}  // namespace sluice::parallel
