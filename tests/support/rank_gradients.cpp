#include "tests/support/rank_gradients.h"

#include <ATen/ops/empty.h>

#include <cmath>
#include <random>

namespace sluice::tests {

at::Tensor rank_gradients(std::int64_t rank, std::int64_t count) {
  constexpr std::int64_t kBlock = 4096;
  constexpr double kNoise = 3.0;
  const at::Tensor values = at::empty({count}, at::kFloat);
  auto* data = values.mutable_data_ptr<float>();
  std::mt19937_64 shared(17);
  std::mt19937_64 own(1000 + static_cast<std::uint64_t>(rank));
  std::normal_distribution<double> signal;
  std::normal_distribution<double> noise;
  for (std::int64_t i = 0; i < count; ++i) {
    const double scale = 1e-3 * std::pow(10.0, -static_cast<double>(i / kBlock % 4));
    data[i] = static_cast<float>(scale * (signal(shared) + kNoise * noise(own)));
  }
  return values;
}

double relative_error(const at::Tensor& got, const at::Tensor& exact) {
  const at::Tensor reference = exact.to(at::kDouble);
  return got.to(at::kDouble).sub(reference).norm().item<double>() / reference.norm().item<double>();
}

}  // namespace sluice::tests
