#include "trainer/kernels/toeplitz.h"

#include <ATen/ops/constant_pad_nd.h>
#include <c10/util/Exception.h>

#include <vector>

namespace sluice::kernels {

at::Tensor toeplitz(const at::Tensor& weights, std::int64_t positions) {
  const std::int64_t all = toeplitz_positions(weights);
  TORCH_CHECK(weights.size(-1) % 2 == 1 && positions >= 1 && positions <= all, "a Toeplitz matrix of ",
              positions, " positions from ", weights.size(-1), " weights");
  const std::int64_t read = 2 * positions - 1;
  // T rows of w, one after another, read again as rows that are longer by one: each starts one weight later
  // than the one above it. Backward is one sum over those rows, without atomics.
  std::vector<std::int64_t> shape = weights.sizes().vec();
  shape.back() = read;
  shape.insert(shape.end() - 1, positions);
  const at::Tensor rows = weights.narrow(-1, all - positions, read).unsqueeze(-2).expand(shape).flatten(-2);
  return at::constant_pad_nd(rows, {0, positions})
      .unflatten(-1, {positions, read + 1})
      .narrow(-1, 0, positions)
      .flip({-2});
}

}  // namespace sluice::kernels
