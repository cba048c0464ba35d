#include "trainer/train/state_layout.h"

#include <c10/util/Exception.h>

#include <algorithm>
#include <utility>

namespace sluice::train {
namespace {

std::int64_t count_of(const std::vector<std::int64_t>& shape) {
  std::int64_t numel = 1;
  for (const std::int64_t extent : shape) numel *= extent;
  return numel;
}

/// Appends the rows that `held` has of one parameter [..., n, columns].
void add_rows(std::vector<Segment>& segments, const Segment& whole, std::int64_t columns,
              const model::HeldRows& held) {
  const std::int64_t matrices = whole.numel / (held.rows.positions() * columns);
  for (std::int64_t matrix = 0; matrix < matrices; ++matrix) {
    for (const kernels::Strip& strip : held.rows.strips(held.rank)) {
      if (strip.range.count() == 0) continue;
      const std::int64_t row = matrix * held.count() + strip.row;
      const std::int64_t position = matrix * held.rows.positions() + strip.range.begin;
      segments.push_back({.held = whole.held + row * columns,
                          .logical = whole.logical + position * columns,
                          .numel = strip.range.count() * columns});
    }
  }
}

std::vector<Segment> segments_of(const std::vector<model::ParameterSpec>& specs,
                                 const parallel::ArenaLayout& held_layout,
                                 const parallel::ArenaLayout& logical, const model::HeldRows& held) {
  std::vector<Segment> segments;
  for (std::size_t i = 0; i < specs.size(); ++i) {
    const Segment whole{.held = held_layout.entries()[i].offset,
                        .logical = logical.entries()[i].offset,
                        .numel = logical.entries()[i].numel};
    if (specs[i].deal == model::Deal::kRows)
      add_rows(segments, whole, specs[i].shape.back(), held);
    else
      segments.push_back(whole);
  }
  return segments;
}

}  // namespace

std::vector<parallel::TensorSpec> arena_tensors(const std::vector<model::ParameterSpec>& specs,
                                                const std::optional<model::HeldRows>& held,
                                                std::int64_t sequence_ranks) {
  std::vector<parallel::TensorSpec> tensors;
  for (const model::ParameterSpec& spec : specs) {
    parallel::TensorSpec tensor{.name = spec.name, .shape = model::held_spec(spec, held).shape};
    tensor.late = spec.late && sequence_ranks == 1;  // who shares sequences leaves no gradient
    if (held && spec.deal == model::Deal::kRows) {
      tensor.holders = parallel::Holders::kSamePlace;
      for (std::int64_t place = 0; place < held->rows.ranks(); ++place)
        tensor.room = std::max(tensor.room, count_of(model::held_spec(spec, held->of(place)).shape));
    }
    tensors.push_back(std::move(tensor));
  }
  return tensors;
}

StateLayout::StateLayout(const std::vector<model::ParameterSpec>& specs, const parallel::BucketPlan& buckets,
                         const std::optional<model::HeldRows>& held)
    : held_(arena_tensors(specs, held, buckets.sequence_ranks), buckets) {
  if (!held_.differs_by_place()) {
    segments_ = {{{0, 0, held_.size()}}};
    return;
  }
  logical_.emplace(arena_tensors(specs, std::nullopt, 1));
  for (std::int64_t place = 0; place < held->rows.ranks(); ++place)
    segments_.push_back(segments_of(specs, held_, *logical_, held->of(place)));
}

StateLayout::StateLayout(const parallel::ArenaLayout& layout)
    : held_(layout), segments_{{{0, 0, layout.size()}}} {
  TORCH_CHECK(!layout.differs_by_place(), "an arena of parts alone does not say of what");
}

}  // namespace sluice::train
