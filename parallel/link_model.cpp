#include "parallel/link_model.h"

#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>
#include <c10/util/Exception.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstring>

#include "parallel/device.h"

namespace sluice::parallel {
namespace {

constexpr double kBatchSeconds = 0.02;
constexpr std::int64_t kMostOperations = 100;
constexpr std::int64_t kWarmUp = 3;

constexpr double kLatencyShare = 0.1;
constexpr std::int64_t kLeastBuckets = 8;
constexpr std::int64_t kLeastBucketBytes = 1 << 16;

/// `other`: where an exchange that is not in place receives.
void exchange_once(Communicator& communicator, Collective collective, const at::Tensor& tensor,
                   const at::Tensor& other) {
  const std::int64_t rank = communicator.rank();
  const std::int64_t ranks = communicator.size();
  switch (collective) {
    case Collective::kAllReduce:
      return communicator.all_reduce_async(tensor, ReduceOp::kSum).wait();
    case Collective::kAllGather:
      return communicator.all_gather_async(tensor).wait();
    case Collective::kReduceScatter:
      return communicator.reduce_scatter_async(tensor).wait();
    case Collective::kAllToAll:
      return communicator.all_to_all_async(tensor, other).wait();
    case Collective::kNeighbour:
      return communicator.exchange_async(tensor, (rank + 1) % ranks, other, (rank + ranks - 1) % ranks)
          .wait();
  }
}

template <typename T>
T from_rank_0(Communicator& communicator, const T& own) {
  const std::string bytes =
      communicator.broadcast(std::string(reinterpret_cast<const char*>(&own), sizeof(T)), 0);
  T value;
  std::memcpy(&value, bytes.data(), sizeof(T));
  return value;
}

double median_of(std::vector<double> values) {
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

}  // namespace

std::string collective_name(Collective collective) {
  switch (collective) {
    case Collective::kAllReduce:
      return "all_reduce";
    case Collective::kAllGather:
      return "all_gather";
    case Collective::kReduceScatter:
      return "reduce_scatter";
    case Collective::kAllToAll:
      return "all_to_all";
    case Collective::kNeighbour:
      return "neighbour";
  }
  TORCH_CHECK(false, "Collective has no value ", static_cast<int>(collective));
}

double bus_factor(Collective collective, std::int64_t ranks) {
  const double share = static_cast<double>(ranks - 1) / static_cast<double>(ranks);
  if (collective == Collective::kNeighbour) return 1;
  return collective == Collective::kAllReduce ? 2 * share : share;
}

std::vector<double> time_collective(Communicator& communicator, at::Device device, Collective collective,
                                    std::int64_t bytes, std::int64_t batches) {
  const std::int64_t whole = communicator.size() * static_cast<std::int64_t>(sizeof(float));
  const std::int64_t chunk = std::max<std::int64_t>(1, bytes / whole);
  const at::Tensor tensor =
      at::zeros({chunk * communicator.size()}, at::TensorOptions().dtype(at::kFloat).device(device));
  const bool in_place = collective != Collective::kAllToAll && collective != Collective::kNeighbour;
  const at::Tensor other = in_place ? tensor : at::zeros_like(tensor);
  const auto seconds_of = [&](std::int64_t operations) {
    wait_for_device(device);
    communicator.barrier();
    const auto begin = std::chrono::steady_clock::now();
    for (std::int64_t i = 0; i < operations; ++i) exchange_once(communicator, collective, tensor, other);
    wait_for_device(device);
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count() /
           static_cast<double>(operations);
  };
  (void)seconds_of(kWarmUp);
  const double guess = from_rank_0(communicator, seconds_of(kWarmUp));
  const auto operations =
      std::clamp<std::int64_t>(static_cast<std::int64_t>(kBatchSeconds / guess), 1, kMostOperations);
  std::vector<double> seconds;
  for (std::int64_t batch = 0; batch < batches; ++batch) seconds.push_back(seconds_of(operations));
  return seconds;
}

LinkModel fit_link(const std::vector<TimedExchange>& exchanges) {
  // Weights 1 / seconds^2: every size counts alike, not the largest alone.
  double weight = 0, x = 0, y = 0, xx = 0, xy = 0;
  for (const TimedExchange& one : exchanges) {
    TORCH_CHECK(one.seconds > 0, "fit_link: ", one.bytes, " bytes took ", one.seconds, " s");
    const double w = 1 / (one.seconds * one.seconds);
    const auto b = static_cast<double>(one.bytes);
    weight += w;
    x += w * b;
    y += w * one.seconds;
    xx += w * b * b;
    xy += w * b * one.seconds;
  }
  const double spread = weight * xx - x * x;
  TORCH_CHECK(spread > 0, "fit_link: needs exchanges of two sizes, got ", exchanges.size());
  const double slope = (weight * xy - x * y) / spread;
  const double latency = (y - slope * x) / weight;
  if (slope < 0) return {.latency_s = y / weight, .s_per_byte = 0};
  if (latency < 0) return {.latency_s = 0, .s_per_byte = xy / xx};
  return {.latency_s = latency, .s_per_byte = slope};
}

LinkModel measure_link(Communicator& communicator, at::Device device) {
  if (communicator.size() == 1) return {};
  constexpr std::int64_t kBatches = 3;
  const std::vector<std::int64_t> sizes = device.is_cuda()
                                              ? std::vector<std::int64_t>{1 << 14, 1 << 18, 1 << 22, 1 << 26}
                                              : std::vector<std::int64_t>{1 << 14, 1 << 17, 1 << 20, 1 << 22};
  std::vector<TimedExchange> exchanges;
  for (const std::int64_t bytes : sizes)
    exchanges.push_back(
        {bytes, median_of(time_collective(communicator, device, Collective::kAllReduce, bytes, kBatches))});
  return from_rank_0(communicator, fit_link(exchanges));
}

std::int64_t choose_bucket_elements(const LinkModel& link, std::int64_t total_elements,
                                    std::int64_t element_bytes) {
  TORCH_CHECK(total_elements >= 1 && element_bytes >= 1, "choose_bucket_elements: ", total_elements,
              " elements of ", element_bytes, " bytes");
  const std::int64_t least = std::max<std::int64_t>(1, kLeastBucketBytes / element_bytes);
  const std::int64_t most = std::max(least, total_elements / kLeastBuckets);
  const double wanted =
      link.latency_s / (kLatencyShare * link.s_per_byte) / static_cast<double>(element_bytes);
  if (!(wanted < static_cast<double>(most))) return most;  // no cost for a byte: infinite, or not a number
  return std::max(least, static_cast<std::int64_t>(std::ceil(wanted)));
}

}  // namespace sluice::parallel
