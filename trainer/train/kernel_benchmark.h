#pragma once

#include <c10/core/Device.h>
#include <c10/core/ScalarType.h>

#include <cstdint>
#include <string>
#include <vector>

#include "trainer/kernels/gmlp_block.h"

// Each kernel of a fused gMLP block by itself, forward and backward: what it must move and multiply at least,
// and how long it takes.
namespace sluice::train {

struct BlockShape {
  std::int64_t batch = 0;
  std::int64_t positions = 0;
  std::int64_t width = 0;      ///< d_model
  std::int64_t expansion = 0;  ///< d_ffn
  kernels::Mixing mixing = kernels::Mixing::kCausal;
  c10::ScalarType compute = c10::ScalarType::BFloat16;  ///< or float32; the residual stream's follows from it
};

enum class Direction { kForward, kBackward };

/// What a kernel cannot do without: tensors read and written once, multiply-adds (2 FLOPs each) of a causal
/// W's triangle alone.
struct KernelWork {
  std::string name;
  Direction direction = Direction::kForward;
  double bytes = 0;
  double flops = 0;  ///< of products; 0 for a pass
};
/// In the order of a step.
[[nodiscard]] std::vector<KernelWork> work_of_block(const BlockShape& shape);

/// What a device reaches, bytes read and written and FLOPs in a second.
struct DeviceRates {
  double bytes_per_s = 0;
  double flops_per_s = 0;
};

enum class Limit { kMemory, kProducts };
[[nodiscard]] Limit limit_of(const KernelWork& work, const DeviceRates& rates);
/// The longer of the times that its bytes and its FLOPs take.
[[nodiscard]] double least_seconds(const KernelWork& work, const DeviceRates& rates);

struct KernelTime {
  KernelWork work;
  double seconds = 0;  ///< median
  std::int64_t repetitions = 0;
};

struct KernelReport {
  std::string device;  ///< its name
  BlockShape shape;
  DeviceRates rates;  ///< by a large copy and the fastest large product, in the same run
  std::vector<KernelTime> kernels;
};

/// On a GPU. At least 20 repetitions of each kernel, on sets of tensors that take turns, so that little of
/// what it reads is in a cache. Throws c10::Error for widths that there are no passes for (has_fused_passes),
/// and where the tensors do not fit.
[[nodiscard]] KernelReport benchmark_kernels(const BlockShape& shape, const c10::Device& device);

}  // namespace sluice::train
