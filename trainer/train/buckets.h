#pragma once

#include <cstdint>
#include <optional>

#include "parallel/arena.h"
#include "trainer/train/checkpoint.h"
#include "trainer/train/device_group.h"
#include "trainer/train/options.h"

namespace sluice::train {

/// The choice's name in a checkpoint.
inline constexpr const char* kBucketElements = "bucket_elements";

/// What `resumed_from`'s run had chosen under `name` (known to rank 0), where this one computes on the same
/// device and as many ranks. Collective.
[[nodiscard]] std::optional<std::int64_t> kept_choice(const std::string& name,
                                                      const std::optional<CheckpointInfo>& resumed_from,
                                                      const DeviceGroup& group,
                                                      parallel::Communicator& world);
/// Of kBucketElements. Collective.
[[nodiscard]] std::optional<std::int64_t> kept_bucket_elements(
    const std::optional<CheckpointInfo>& resumed_from, const DeviceGroup& group,
    parallel::Communicator& world);

/// How a training replica's arena is cut for exchange: by parallel.bucket_mb; where that is 0 by `kept`, the
/// elements that an earlier session of the run chose, or on GPUs by measuring their link. Bits of the norm
/// depend on it, so a resumed run keeps it. Collective.
[[nodiscard]] parallel::BucketPlan choose_buckets(const RunOptions& options, std::int64_t vocabulary_size,
                                                  DeviceGroup& group,
                                                  std::optional<std::int64_t> kept = std::nullopt);

}  // namespace sluice::train
