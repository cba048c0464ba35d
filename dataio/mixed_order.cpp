#include "dataio/mixed_order.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <stdexcept>
#include <string>

// The arithmetic here is a file format, as order.cpp's is (dataio/README.md).
namespace sluice::dataio {
namespace {

constexpr int kShareBits = 32;
constexpr std::uint64_t kWhole = std::uint64_t{1} << kShareBits;

/// floor(count share / 2^32), for counts below 2^63 and shares up to 2^32.
std::uint64_t part_of(std::uint64_t count, std::uint64_t share) {
  return (count >> kShareBits) * share + (((count & (kWhole - 1)) * share) >> kShareBits);
}

void check(const std::vector<Order>& orders, const std::vector<double>& weights) {
  if (orders.size() != weights.size()) {
    throw std::invalid_argument("MixedOrder: " + std::to_string(orders.size()) + " orders, " +
                                std::to_string(weights.size()) + " weights");
  }
  for (const Order& order : orders) {
    if (order.plan().seq_len == orders.front().plan().seq_len) continue;
    throw std::invalid_argument("MixedOrder: sequences of " + std::to_string(orders.front().plan().seq_len) +
                                " and of " + std::to_string(order.plan().seq_len));
  }
}

}  // namespace

std::vector<std::uint64_t> mixture_shares(const std::vector<double>& weights) {
  double left = std::accumulate(weights.begin(), weights.end(), 0.0);
  if (weights.empty() || !std::isfinite(left)) {
    throw std::invalid_argument("mixture_shares: " + std::to_string(weights.size()) + " weights, their sum " +
                                std::to_string(left));
  }
  std::vector<std::uint64_t> shares;
  for (std::size_t part = 0; part < weights.size(); ++part) {
    if (!(weights[part] > 0)) {
      throw std::invalid_argument("mixture_shares: weight " + std::to_string(weights[part]));
    }
    const bool last = part + 1 == weights.size();
    const double share = last ? 1.0 : std::clamp(weights[part] / left, 0.0, 1.0);
    shares.push_back(static_cast<std::uint64_t>(std::llround(std::ldexp(share, kShareBits))));
    left -= weights[part];
  }
  return shares;
}

MixedOrder::MixedOrder(std::vector<Order> orders, const std::vector<double>& weights)
    : orders_(std::move(orders)), shares_(mixture_shares(weights)) {
  check(orders_, weights);
}

MixedSample MixedOrder::sample(std::int64_t global_index) const {
  if (global_index < 0) {
    throw std::invalid_argument("MixedOrder: sample index " + std::to_string(global_index) + " is negative");
  }
  auto index = static_cast<std::uint64_t>(global_index);
  std::size_t part = 0;
  for (; part + 1 < orders_.size(); ++part) {
    const std::uint64_t before = part_of(index, shares_[part]);
    if (part_of(index + 1, shares_[part]) > before) {
      index = before;
      break;
    }
    index -= before;
  }
  return {static_cast<std::int64_t>(part), orders_[part].window(static_cast<std::int64_t>(index))};
}

}  // namespace sluice::dataio
