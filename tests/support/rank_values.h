#pragma once

#include <ATen/core/Tensor.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "parallel/communicator.h"

// What ranks put into the tensors that they exchange in tests, and what has to come out.

namespace sluice::tests {

/// A value of rank `rank` at `index`: floats that round when they are added, so that the order of addition
/// shows.
template <typename T>
T value(std::int64_t rank, std::int64_t index) {
  const std::int64_t mixed = (index + 1) * 2654435761 + rank * 40503 * 65537;
  const auto small = static_cast<double>(mixed % 20011 - 10005);
  if constexpr (std::is_floating_point_v<T>)
    return static_cast<T>(small * 0.1 + static_cast<double>(rank) * 1e4);
  return static_cast<T>(small);
}

template <typename T>
T fold_of(T a, T b, parallel::ReduceOp op) {
  if (op == parallel::ReduceOp::kSum) return static_cast<T>(a + b);
  return op == parallel::ReduceOp::kMin ? std::min(a, b) : std::max(a, b);
}

template <typename T>
void fill(const at::Tensor& tensor, std::int64_t rank) {
  T* data = tensor.mutable_data_ptr<T>();
  for (std::int64_t i = 0; i < tensor.numel(); ++i) data[i] = value<T>(rank, i);
}

/// Bit for bit what a loop over ranks gives.
template <typename T>
::testing::AssertionResult is_folded(const at::Tensor& tensor, std::int64_t ranks, parallel::ReduceOp op) {
  const T* data = tensor.const_data_ptr<T>();
  for (std::int64_t i = 0; i < tensor.numel(); ++i) {
    T expected = value<T>(0, i);
    for (std::int64_t rank = 1; rank < ranks; ++rank) expected = fold_of(expected, value<T>(rank, i), op);
    if (std::memcmp(&data[i], &expected, sizeof(T)) != 0)
      return ::testing::AssertionFailure() << "element " << i << " of " << tensor.numel() << " is " << data[i]
                                           << ", a loop over ranks gives " << expected;
  }
  return ::testing::AssertionSuccess();
}

}  // namespace sluice::tests
