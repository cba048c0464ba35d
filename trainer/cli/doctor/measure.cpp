#include "trainer/cli/doctor/measure.h"

#include <ATen/ops/full.h>

#include <algorithm>
#include <chrono>
#include <limits>
#include <nlohmann/json.hpp>

#include "parallel/device.h"
#include "trainer/kernels/peak.h"
#include "trainer/train/quantile.h"

namespace sluice::cli::doctor {
namespace {

constexpr std::int64_t kElements = 1 << 18;  ///< 1 MiB of fp32
constexpr double kProductBudgetS = 0.3;

kernels::GemmRate product_rate(at::Device device) {
  if (device.is_cpu())
    return kernels::measure_gemm(kernels::Arithmetic::kFp32, {768, 768, 768}, device, kProductBudgetS);
  return kernels::measure_gemm(kernels::Arithmetic::kBf16, {4096, 4096, 4096}, device, kProductBudgetS);
}

at::Tensor filled(double value, at::Device device) {
  return at::full({kElements}, value, at::TensorOptions().dtype(at::kFloat).device(device));
}

/// Every element: small whole numbers are exact in fp32.
bool sums_rightly(parallel::Communicator& ranks, at::Device device) {
  const at::Tensor tensor = filled(static_cast<double>(ranks.rank() + 1), device);
  ranks.all_reduce(tensor, parallel::ReduceOp::kSum);
  const auto count = static_cast<double>(ranks.size());
  return tensor.equal(filled(count * (count + 1) / 2, device));
}

/// Seconds that a broadcast from each rank took until it was here, the least of `rounds`.
std::vector<double> broadcasts(parallel::Communicator& ranks, at::Device device, int rounds) {
  const at::Tensor tensor = filled(1.0, device);
  std::vector<double> seconds(static_cast<std::size_t>(ranks.size()),
                              std::numeric_limits<double>::infinity());
  for (std::int64_t turn = 0; turn < rounds * ranks.size(); ++turn) {
    const std::int64_t root = turn % ranks.size();
    parallel::wait_for_device(device);
    ranks.barrier();
    const auto start = std::chrono::steady_clock::now();
    ranks.broadcast(tensor, root);
    parallel::wait_for_device(device);
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
    double& least = seconds[static_cast<std::size_t>(root)];
    least = std::min(least, took.count());
  }
  return seconds;
}

/// Medians over the other ranks of what `seconds[receiver][root]` says of one.
void read_broadcasts(RankProbe& probe, const std::vector<std::vector<double>>& seconds) {
  std::vector<double> sending, receiving;
  const auto own = static_cast<std::size_t>(probe.rank);
  for (std::size_t other = 0; other < seconds.size(); ++other) {
    if (other == own) continue;
    sending.push_back(seconds[other][own]);
    receiving.push_back(seconds[own][other]);
  }
  if (sending.empty()) return;
  probe.sending_s = train::quantile(sending, 0.5);
  probe.receiving_s = train::quantile(receiving, 0.5);
}

}  // namespace

double clock_ahead(parallel::Communicator& world) {
  constexpr int kReadings = 5;
  std::vector<double> ahead;
  for (int reading = 0; reading < kReadings; ++reading) {
    world.barrier();
    const std::chrono::duration<double> now = std::chrono::system_clock::now().time_since_epoch();
    const auto zeros =
        nlohmann::json::parse(world.broadcast(nlohmann::json(now.count()).dump(), 0)).get<double>();
    ahead.push_back(now.count() - zeros);
  }
  return train::quantile(ahead, 0.5);
}

void measure_speed(RankProbe& probe, parallel::Communicator& ranks, at::Device device) {
  probe.sum_right = sums_rightly(ranks, device);
  (void)broadcasts(ranks, device, 1);  // opens connections
  const auto own = broadcasts(ranks, device, 3);
  std::vector<std::vector<double>> all;
  for (const std::string& text : ranks.all_gather(nlohmann::json(own).dump()))
    all.push_back(nlohmann::json::parse(text).get<std::vector<double>>());
  read_broadcasts(probe, all);
  probe.products_flops = product_rate(device).flops_per_s;
}

}  // namespace sluice::cli::doctor
