#include "trainer/model/positions.h"

#include <ATen/ops/empty.h>

#include <cmath>

namespace sluice::model {

at::Tensor sinusoids(std::int64_t positions, std::int64_t width, const at::TensorOptions& options) {
  at::Tensor table = at::empty({positions, width}, at::TensorOptions().dtype(at::kDouble));
  double* out = table.data_ptr<double>();
  for (std::int64_t t = 0; t < positions; ++t) {
    for (std::int64_t c = 0; c < width; ++c) {
      const double exponent = -static_cast<double>(c - c % 2) / static_cast<double>(width);
      const double angle = static_cast<double>(t) * std::pow(10000.0, exponent);
      out[t * width + c] = c % 2 == 0 ? std::sin(angle) : std::cos(angle);
    }
  }
  return table.to(options);
}

}  // namespace sluice::model
