#include "trainer/kernels/token_shift.h"

#include <ATen/ops/cat.h>
#include <ATen/ops/zeros.h>
#include <c10/util/Exception.h>

#include <algorithm>
#include <cstdlib>
#include <vector>

namespace sluice::kernels {
namespace {

/// Row t holds row t - distance.
at::Tensor shifted(const at::Tensor& x_BTk, std::int64_t distance) {
  if (distance == 0) return x_BTk;
  const std::int64_t positions = x_BTk.size(1);
  const std::int64_t gap = std::min(std::abs(distance), positions);
  const at::Tensor none =
      at::zeros({x_BTk.size(0), gap, x_BTk.size(2)}, x_BTk.options().requires_grad(false));
  return distance > 0 ? at::cat({none, x_BTk.narrow(1, 0, positions - gap)}, 1)
                      : at::cat({x_BTk.narrow(1, gap, positions - gap), none}, 1);
}

}  // namespace

std::int64_t shift_groups(std::int64_t reach, Mixing mixing) {
  return mixing == Mixing::kCausal ? reach + 1 : 2 * reach + 1;
}

at::Tensor shift_tokens(const at::Tensor& x_BTd, std::int64_t reach, Mixing mixing) {
  if (reach == 0) return x_BTd;
  const std::int64_t groups = shift_groups(reach, mixing);
  const std::int64_t width = x_BTd.size(2) / groups;
  TORCH_CHECK(width > 0, "a shift by up to ", reach, " positions makes ", groups, " groups of ",
              x_BTd.size(2), " channels");
  std::vector<at::Tensor> parts = x_BTd.split(width, 2);
  const std::int64_t first = mixing == Mixing::kCausal ? 0 : -reach;
  for (std::int64_t group = 0; group < groups; ++group) {
    at::Tensor& part = parts[static_cast<std::size_t>(group)];
    part = shifted(part, first + group);
  }
  return at::cat(parts, 2);
}

}  // namespace sluice::kernels
