#pragma once

#include <cstdint>
#include <vector>

#include "trainer/kernels/mixing.h"
#include "trainer/kernels/sequence_exchange.h"

namespace sluice::kernels {

/// Whose block is where as blocks go round the ranks that share a sequence (ring_mixing.h).
struct Ring {
  const SequenceExchange& exchange;
  Mixing mixing;

  [[nodiscard]] std::int64_t ranks() const { return exchange.rows().ranks(); }
  [[nodiscard]] std::int64_t rank() const { return exchange.rank(); }
  [[nodiscard]] std::int64_t before() const { return (rank() + ranks() - 1) % ranks(); }
  [[nodiscard]] std::int64_t after() const { return (rank() + 1) % ranks(); }
  /// Whose block this rank multiplies in step `step`.
  [[nodiscard]] std::int64_t owner(std::int64_t step) const { return (rank() + step) % ranks(); }

  /// The rows of `owner` that rank `at` needs.
  [[nodiscard]] std::vector<Strip> needed(std::int64_t owner, std::int64_t at) const {
    std::vector<Strip> strips = exchange.rows().strips(owner);
    if (mixing == Mixing::kCausal && at > owner) strips.pop_back();
    return strips;
  }
  [[nodiscard]] std::int64_t needed_rows(std::int64_t owner, std::int64_t at) const {
    std::int64_t rows = 0;
    for (const Strip& strip : needed(owner, at)) rows += strip.range.count();
    return rows;
  }
};

}  // namespace sluice::kernels
