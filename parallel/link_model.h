#pragma once

#include <c10/core/Device.h>

#include <cstdint>
#include <string>
#include <vector>

#include "parallel/communicator.h"

// How long exchanges take, and what follows from it for the size of buckets.
namespace sluice::parallel {

enum class Collective {
  kAllReduce,
  kAllGather,
  kReduceScatter,
  kAllToAll,
  kNeighbour,  ///< every rank's tensor to the rank after it
};

[[nodiscard]] std::string collective_name(Collective collective);  ///< "all_reduce"

/// Bytes that each rank's link carries for a byte of the tensor, as nccl-tests count them: 2 (n - 1) / n for
/// an all-reduce, (n - 1) / n for what is gathered, scattered or dealt, 1 for a neighbour's. Bus bandwidth is
/// this times bytes per second.
[[nodiscard]] double bus_factor(Collective collective, std::int64_t ranks);

/// Seconds of one operation on a float32 tensor of about `bytes` (all chunks together), in each of `batches`
/// batches of several operations one after the other, host clock, device idle before and after. Warms up
/// first. Collective.
[[nodiscard]] std::vector<double> time_collective(Communicator& communicator, at::Device device,
                                                  Collective collective, std::int64_t bytes,
                                                  std::int64_t batches);

/// An exchange of b bytes takes latency_s + b * s_per_byte.
struct LinkModel {
  double latency_s = 0;
  double s_per_byte = 0;
};

struct TimedExchange {
  std::int64_t bytes = 0;
  double seconds = 0;
};

/// The line with the least squares of relative errors; neither part is negative. Needs two sizes.
[[nodiscard]] LinkModel fit_link(const std::vector<TimedExchange>& exchanges);

/// Of all-reduces of this group on this device: measured (under a second), fitted on rank 0, and the same on
/// all ranks. All zero for a group of one. Collective.
[[nodiscard]] LinkModel measure_link(Communicator& communicator, at::Device device);

/// Elements of a bucket. The larger buckets are, the less their latency counts, but the longer the last one,
/// which no computation hides. Rule: the smallest bucket whose latency is a tenth of the time its bytes take,
/// but at least 8 buckets, and none under 64 KiB. Pure.
[[nodiscard]] std::int64_t choose_bucket_elements(const LinkModel& link, std::int64_t total_elements,
                                                  std::int64_t element_bytes);

}  // namespace sluice::parallel
