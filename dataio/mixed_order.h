#pragma once

#include <cstdint>
#include <vector>

#include "dataio/order.h"

namespace sluice::dataio {

/// Share of each part in what the parts before it leave, in 2^-32: of the last one all. Two mixtures of the
/// same parts in the same order draw the same samples where these are equal. Weights are positive and finite,
/// and so is their sum; in any unit. Throws std::invalid_argument otherwise, and where there are none.
[[nodiscard]] std::vector<std::uint64_t> mixture_shares(const std::vector<double>& weights);

/// A sample of a mixture: which of its parts it is from, and where it lies there.
struct MixedSample {
  std::int64_t part = 0;
  Window window;
};

/// Orders of several splits woven into one: of the first i samples, each part has its share, up to one
/// sample for each part listed before it and itself. Like Order a pure function of the index with O(1)
/// state; each part's own samples come in the order of its Order, epoch after epoch. One part: its Order.
class MixedOrder {
 public:
  /// Throws std::invalid_argument as mixture_shares does, and where there are not as many orders as weights,
  /// or sequences of different lengths.
  MixedOrder(std::vector<Order> orders, const std::vector<double>& weights);
  MixedOrder(const Order& order) : MixedOrder({order}, {1.0}) {}  // NOLINT: one split is a mixture too

  [[nodiscard]] MixedSample sample(std::int64_t global_index) const;
  [[nodiscard]] const std::vector<Order>& orders() const { return orders_; }
  [[nodiscard]] std::int64_t seq_len() const { return orders_.front().plan().seq_len; }

 private:
  std::vector<Order> orders_;
  std::vector<std::uint64_t> shares_;
};

}  // namespace sluice::dataio
