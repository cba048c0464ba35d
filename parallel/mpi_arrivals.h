#pragma once

#include <cstdint>
#include <vector>

#include "parallel/mpi_internal.h"

namespace sluice::parallel {

/// How many operations each rank of this host has started, in memory that they share, and whether it lives: a
/// watchdog reads it while its rank is blocked, without a call of MPI. Ranks of other hosts are unknown;
/// where the host gives no shared memory, the counts of all are.
class MpiArrivals {
 public:
  /// Collective over `communicator`.
  explicit MpiArrivals(MPI_Comm communicator);
  /// Collective.
  ~MpiArrivals();
  MpiArrivals(const MpiArrivals&) = delete;
  MpiArrivals& operator=(const MpiArrivals&) = delete;

  void publish(std::int64_t sequence);
  /// By rank of `communicator`, -1 where unknown.
  [[nodiscard]] std::vector<std::int64_t> published(std::int64_t size) const;
  [[nodiscard]] Place place() const { return place_; }
  /// The ranks of this host whose process has ended. Those of another pid namespace are never named.
  [[nodiscard]] std::vector<std::int64_t> gone() const;
  /// Leaves the collective destruction out.
  void forget();

 private:
  struct Seat {
    std::int64_t rank = 0;
    std::int64_t* counter = nullptr;
  };
  struct Process {
    std::int64_t rank = 0;
    std::int64_t pid = 0;
  };

  void find_processes(int rank);
  void share_counters(int rank);

  MPI_Comm node_ = MPI_COMM_NULL;
  MPI_Win window_ = MPI_WIN_NULL;
  std::int64_t* own_ = nullptr;
  std::vector<Seat> seats_;
  std::vector<Process> processes_;  ///< of the other ranks, as far as this one sees them
  Place place_;
};

}  // namespace sluice::parallel
