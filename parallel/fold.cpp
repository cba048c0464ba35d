#include "parallel/fold.h"

#include <c10/util/Exception.h>

#include <type_traits>

namespace sluice::parallel {
namespace {

template <typename T>
T add(T a, T b) {
  if constexpr (std::is_integral_v<T>) {
    using Unsigned = std::make_unsigned_t<T>;  // wraps instead of being undefined
    return static_cast<T>(static_cast<Unsigned>(a) + static_cast<Unsigned>(b));
  } else {
    return a + b;
  }
}

template <typename T>
void fold_typed(T* __restrict accumulator, const T* __restrict values, std::int64_t count, ReduceOp op) {
  // `b != b` is true for NaN only.
  switch (op) {
    case ReduceOp::kSum:
      for (std::int64_t i = 0; i < count; ++i) accumulator[i] = add(accumulator[i], values[i]);
      return;
    case ReduceOp::kMin:
      for (std::int64_t i = 0; i < count; ++i) {
        const T a = accumulator[i], b = values[i];
        accumulator[i] = b < a || b != b ? b : a;
      }
      return;
    case ReduceOp::kMax:
      for (std::int64_t i = 0; i < count; ++i) {
        const T a = accumulator[i], b = values[i];
        accumulator[i] = b > a || b != b ? b : a;
      }
      return;
  }
}

template <typename T>
void fold_as(void* accumulator, const void* values, std::int64_t count, ReduceOp op) {
  fold_typed(static_cast<T*>(accumulator), static_cast<const T*>(values), count, op);
}

}  // namespace

void fold(void* accumulator, const void* values, std::int64_t count, at::ScalarType type, ReduceOp op) {
  switch (type) {
    case at::kFloat:
      return fold_as<float>(accumulator, values, count, op);
    case at::kDouble:
      return fold_as<double>(accumulator, values, count, op);
    case at::kLong:
      return fold_as<std::int64_t>(accumulator, values, count, op);
    case at::kInt:
      return fold_as<std::int32_t>(accumulator, values, count, op);
    default:
      TORCH_CHECK(false, "fold: no sums of type ", type);
  }
}

}  // namespace sluice::parallel
