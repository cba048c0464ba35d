#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

#include "trainer/kernels/mixing.h"

namespace sluice::kernels {

/// How many equal groups of channels a shift by up to `reach` positions makes: one for each distance 0, 1,
/// ... reach, and if positions see later ones -reach, ... -1 as well.
[[nodiscard]] std::int64_t shift_groups(std::int64_t reach, Mixing mixing);

/// x [B, T, d] with each group of channels taken from another position, the one `distance` before, in rising
/// order of the distances; zeros where there is none. Channels left over by an equal division stay. As
/// g-mlp-pytorch's shift_tokens. Throws c10::Error for fewer channels than groups.
[[nodiscard]] at::Tensor shift_tokens(const at::Tensor& x_BTd, std::int64_t reach, Mixing mixing);

}  // namespace sluice::kernels
