#pragma once

#include <cstdint>
#include <functional>
#include <memory>

#include "parallel/communicator.h"

namespace sluice::parallel {

/// The ranks of a group as data-parallel rows of `sequence_ranks` neighbours each: rank r is number
/// r % sequence_ranks of row r / sequence_ranks. The ranks of a row read the same samples and share each
/// sequence among them.
class Mesh {
 public:
  enum class Line { kSequence, kData };
  /// The group of those ranks of `world` that give the same part, in their order: a row, or those with one
  /// place in their rows. Collective.
  using Split =
      std::function<std::unique_ptr<Communicator>(Communicator& world, std::int64_t part, Line line)>;

  /// Collective; `world` outlives it. `split` makes its groups; none: Communicator::split, for CPU tensors.
  /// Throws c10::Error where sequence_ranks does not divide the ranks.
  Mesh(Communicator& world, std::int64_t sequence_ranks, const Split& split = {});

  [[nodiscard]] std::int64_t data_rank() const { return world_.rank() / sequence_ranks_; }
  [[nodiscard]] std::int64_t data_ranks() const { return world_.size() / sequence_ranks_; }
  [[nodiscard]] std::int64_t sequence_ranks() const { return sequence_ranks_; }
  [[nodiscard]] std::int64_t place() const { return world_.rank() % sequence_ranks_; }  ///< in its row
  /// This rank's row.
  [[nodiscard]] Communicator& sequence() const { return *sequence_; }
  /// The ranks with this one's place in their rows.
  [[nodiscard]] Communicator& data() const { return *data_; }

 private:
  Communicator& world_;
  std::int64_t sequence_ranks_;
  std::unique_ptr<Communicator> sequence_;
  std::unique_ptr<Communicator> data_;
};

}  // namespace sluice::parallel
