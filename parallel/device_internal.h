#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "parallel/device.h"

// The parts of choosing a device: what the flavours know, and the rules, which need no device.
namespace sluice::parallel {

/// What one rank tells the others.
struct GpuView {
  std::int64_t visible = 0;  ///< GPUs
  std::string fault;         ///< why those that are there cannot be used; empty: they can, or there are none
};

enum class Sharing { kForbidden, kAllowed };

// device_cpu.cpp, device_cuda.cpp
[[nodiscard]] GpuView view_gpus();
/// Makes it the current device, and runs something on it: DeviceError where the build has no code for it.
void use_gpu(std::int64_t index);

// device_choice.cpp
/// Whether this job computes on GPUs. Throws DeviceError naming a rank that cannot.
[[nodiscard]] bool all_use_gpus(DeviceChoice choice, const std::vector<GpuView>& views);
[[nodiscard]] std::int64_t gpu_index(const Place& place, std::int64_t visible, Sharing sharing);
/// Throws DeviceError when two ranks have one UUID.
void check_own_gpus(const std::vector<std::string>& uuids, Sharing sharing);
/// Throws DeviceError where a launcher (its variable's name) tells another local rank than `place`.
void check_local_rank(const Place& place, const std::string& variable,
                      const std::optional<std::string>& value);
/// Whether code for `architectures`, as CMake names them ("80-real,90"), runs on this compute capability.
[[nodiscard]] bool has_code(const std::string& architectures, int major, int minor);

}  // namespace sluice::parallel
