#pragma once

#include <cstddef>
#include <cstdint>

namespace sluice::parallel {

/// A rank, bucket or entry, never negative, as what containers count with.
constexpr std::size_t at_index(std::int64_t value) { return static_cast<std::size_t>(value); }

}  // namespace sluice::parallel
