#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "parallel/arena.h"
#include "trainer/model/parameters.h"

namespace sluice::train {

/// Initial values of every parameter into `whole`, a flat buffer of the layout, whose entries are `specs` in
/// their order: a pure function of (parameter names, seed). To a GPU by way of page-locked memory, a part on
/// its way while the next is drawn. Padding is left alone.
void draw_initial_values(const std::vector<model::ParameterSpec>& specs, const parallel::ArenaLayout& layout,
                         std::uint64_t seed, const at::Tensor& whole);

}  // namespace sluice::train
