#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "trainer/kernels/sequence_exchange.h"
#include "trainer/model/parameters.h"

// What of a model's parameters a rank holds that shares sequences with others.

namespace sluice::model {

/// The positions whose rows alone a rank holds of parameters that are dealt (Deal::kRows).
struct HeldRows {
  kernels::SequenceRows rows;
  std::int64_t rank = 0;

  [[nodiscard]] HeldRows of(std::int64_t other) const { return {rows, other}; }
  [[nodiscard]] std::int64_t count() const { return rows.count(rank); }
};

/// None: the rank holds all of everything. So it is without an exchange, and where ranks deal out channels.
[[nodiscard]] std::optional<HeldRows> held_rows(const kernels::SequenceExchange* exchange);

/// `spec` in the shape of what such a rank holds of it: [n, n] -> [t, n], [heads, n, n] -> [heads, t, n],
/// rows in the order of SequenceRows::held.
[[nodiscard]] ParameterSpec held_spec(const ParameterSpec& spec, const std::optional<HeldRows>& held);
[[nodiscard]] std::vector<ParameterSpec> held_specs(const std::vector<ParameterSpec>& specs,
                                                    const std::optional<HeldRows>& held);

}  // namespace sluice::model
