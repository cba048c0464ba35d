#include "trainer/model/positions.h"

#include <ATen/ops/empty.h>
#include <c10/util/Exception.h>

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

at::Tensor CallPositions::of(const at::Tensor& table) const {
  return index_t_.defined() ? table.index_select(0, index_t_) : table.narrow(0, first_, count_);
}

void CallPositions::check(std::int64_t positions) const {
  if (index_t_.defined()) return;
  TORCH_CHECK(count_ >= 1 && first_ + count_ <= positions, "positions ", first_, " to ", first_ + count_,
              " asked of a model of ", positions);
}

}  // namespace sluice::model
