#include "parallel/mpi_arrivals.h"

#include <signal.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>

namespace sluice::parallel {

namespace {

bool lives(std::int64_t pid) { return kill(static_cast<pid_t>(pid), 0) == 0 || errno != ESRCH; }

}  // namespace

MpiArrivals::MpiArrivals(MPI_Comm communicator) {
  int rank = 0;
  int number = 0;
  check_mpi(MPI_Comm_rank(communicator, &rank), "MPI_Comm_rank");
  check_mpi(MPI_Comm_split_type(communicator, MPI_COMM_TYPE_SHARED, rank, MPI_INFO_NULL, &node_),
            "MPI_Comm_split_type");
  check_mpi(MPI_Comm_set_errhandler(node_, MPI_ERRORS_RETURN), "MPI_Comm_set_errhandler");
  check_mpi(MPI_Comm_rank(node_, &number), "MPI_Comm_rank");
  place_.local_rank = number;
  check_mpi(MPI_Comm_size(node_, &number), "MPI_Comm_size");
  place_.local_size = number;
  find_processes(rank);
  share_counters(rank);
}

void MpiArrivals::find_processes(int rank) {
  const Process own{rank, getpid()};
  std::vector<Process> all(static_cast<std::size_t>(place_.local_size));
  check_mpi(MPI_Allgather(&own, sizeof(own), MPI_BYTE, all.data(), sizeof(own), MPI_BYTE, node_),
            "MPI_Allgather");
  for (const Process& process : all)
    if (process.rank != rank && lives(process.pid)) processes_.push_back(process);
}

void MpiArrivals::share_counters(int rank) {
  std::int64_t* own = nullptr;
  int made = MPI_Win_allocate_shared(sizeof(std::int64_t), sizeof(std::int64_t), MPI_INFO_NULL, node_,
                                     static_cast<void*>(&own), &window_) == MPI_SUCCESS;
  // A convenience of fault reports: without shared memory on any rank it is left out on all.
  check_mpi(MPI_Allreduce(MPI_IN_PLACE, &made, 1, MPI_INT, MPI_MIN, node_), "MPI_Allreduce");
  if (!made) return;
  own_ = own;
  publish(0);
  std::vector<int> ranks(static_cast<std::size_t>(place_.local_size));
  check_mpi(MPI_Allgather(&rank, 1, MPI_INT, ranks.data(), 1, MPI_INT, node_), "MPI_Allgather");
  for (int seat = 0; seat < place_.local_size; ++seat) {
    MPI_Aint bytes = 0;
    int unit = 0;
    std::int64_t* counter = nullptr;
    check_mpi(MPI_Win_shared_query(window_, seat, &bytes, &unit, static_cast<void*>(&counter)),
              "MPI_Win_shared_query");
    seats_.push_back({ranks[static_cast<std::size_t>(seat)], counter});
  }
}

MpiArrivals::~MpiArrivals() {
  if (window_ != MPI_WIN_NULL) MPI_Win_free(&window_);
  if (node_ != MPI_COMM_NULL) MPI_Comm_free(&node_);
}

void MpiArrivals::publish(std::int64_t sequence) {
  if (own_) std::atomic_ref(*own_).store(sequence, std::memory_order_relaxed);
}

std::vector<std::int64_t> MpiArrivals::published(std::int64_t size) const {
  std::vector<std::int64_t> counts(static_cast<std::size_t>(size), -1);
  for (const Seat& seat : seats_)
    counts[static_cast<std::size_t>(seat.rank)] =
        std::atomic_ref(*seat.counter).load(std::memory_order_relaxed);
  return counts;
}

std::vector<std::int64_t> MpiArrivals::gone() const {
  std::vector<std::int64_t> ranks;
  for (const Process& process : processes_)
    if (!lives(process.pid)) ranks.push_back(process.rank);
  return ranks;
}

void MpiArrivals::forget() {
  window_ = MPI_WIN_NULL;
  node_ = MPI_COMM_NULL;
}

}  // namespace sluice::parallel
