#include "parallel/mesh.h"

#include <c10/util/Exception.h>

namespace sluice::parallel {

Mesh::Mesh(Communicator& world, std::int64_t sequence_ranks, const Split& split)
    : world_(world), sequence_ranks_(sequence_ranks) {
  TORCH_CHECK(sequence_ranks >= 1 && world.size() % sequence_ranks == 0, "a mesh of ", world.size(),
              " ranks cannot have rows of ", sequence_ranks);
  const auto group = [&](std::int64_t part, Line line) {
    return split ? split(world, part, line) : world.split(part);
  };
  sequence_ = group(data_rank(), Line::kSequence);
  data_ = group(place(), Line::kData);
}

}  // namespace sluice::parallel
