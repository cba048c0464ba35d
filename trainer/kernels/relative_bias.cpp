#include "trainer/kernels/relative_bias.h"

#include <ATen/ops/mm.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <cmath>

#include "trainer/kernels/toeplitz.h"

namespace sluice::kernels {
namespace {

/// [H, 2 n - 1], of every distance.
at::Tensor by_distance(const RelativeBias& bias) {
  const bool wide = bias.weight_HK.scalar_type() == at::kDouble;
  return at::mm(bias.weight_HK.to(wide ? at::kDouble : at::kFloat), bias.buckets_KD);
}

}  // namespace

std::int64_t relative_bucket(std::int64_t distance, Mixing mixing) {
  const bool both_ways = mixing == Mixing::kFull;
  const std::int64_t buckets = both_ways ? kRelativeBuckets / 2 : kRelativeBuckets;
  const std::int64_t first = both_ways && distance > 0 ? buckets : 0;
  const std::int64_t reach = both_ways ? std::abs(distance) : std::max<std::int64_t>(-distance, 0);
  const std::int64_t exact = buckets / 2;
  if (reach < exact) return first + reach;
  const auto ratio = [exact](std::int64_t of) {
    return static_cast<double>(of) / static_cast<double>(exact);
  };
  const double share = std::log(ratio(reach)) / std::log(ratio(kRelativeReach));
  const auto grown = static_cast<std::int64_t>(share * static_cast<double>(buckets - exact));
  return first + std::min(exact + grown, buckets - 1);
}

at::Tensor relative_buckets(std::int64_t positions, Mixing mixing, const at::TensorOptions& options) {
  const at::Tensor table =
      at::zeros({kRelativeBuckets, 2 * positions - 1}, at::TensorOptions().dtype(at::kDouble));
  auto* const to = table.mutable_data_ptr<double>();
  for (std::int64_t column = 0; column < table.size(1); ++column)
    to[relative_bucket(column - (positions - 1), mixing) * table.size(1) + column] = 1;
  return table.to(options);
}

at::Tensor relative_bias(const RelativeBias& bias, std::int64_t positions) {
  return toeplitz(by_distance(bias), positions);
}

at::Tensor relative_bias_row(const RelativeBias& bias, std::int64_t position) {
  const at::Tensor all = by_distance(bias);
  return all.narrow(1, toeplitz_positions(all) - 1 - position, position + 1).unsqueeze(1);
}

}  // namespace sluice::kernels
