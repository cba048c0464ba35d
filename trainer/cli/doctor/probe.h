#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "parallel/communicator.h"

namespace sluice::cli::doctor {

inline constexpr std::int64_t kUnlimited = -1;

/// getrlimit's, in files and bytes; kUnlimited for none.
struct Limits {
  std::int64_t open_files = kUnlimited;  ///< the hard limit: sluice raises the soft one itself
  std::int64_t locked_bytes = kUnlimited;
  std::int64_t stack_bytes = kUnlimited;
};

/// A file system as one node sees it. Bytes and inodes: what is free to this user.
struct DirectoryProbe {
  std::string path{};
  std::string fault{};  ///< why no file can be made there; empty: one was
  int lock_error = 0;   ///< errno of flock() on it, which HDF5 calls when it opens a file
  std::int64_t free_bytes = 0;
  std::int64_t free_inodes = kUnlimited;  ///< kUnlimited: the file system does not count them
  bool sees_rank_zero = true;             ///< a file that rank 0 made is there too
};

/// What a rank found of its own process and node. What belongs to a node is only found by its first rank.
struct RankProbe {
  std::int64_t rank = 0;
  std::string host{};
  std::int64_t local_rank = 0;
  std::int64_t local_size = 1;

  std::vector<std::string> libraries{};  ///< files of MPI and NCCL in this process
  std::vector<int> cores{};              ///< that this process is bound to
  std::vector<int> usable_cores{};       ///< that it could be bound to
  std::int64_t gpus = 0;                 ///< visible ones
  Limits limits{};

  bool gpu_driver = false;              ///< the node has a GPU driver
  bool infiniband = false;              ///< the node has an RDMA device
  bool hdf5_locks = true;               ///< HDF5_USE_FILE_LOCKING does not turn them off
  std::int64_t shared_memory_free = 0;  ///< bytes of /dev/shm
  std::vector<DirectoryProbe> directories{};

  double clock_ahead_s = 0;   ///< of rank 0's clock
  double products_flops = 0;  ///< FLOP/s of a matrix product, all ranks at once
  double sending_s = 0;       ///< of a broadcast from this rank, median over the others
  double receiving_s = 0;     ///< of a broadcast to this rank, median over the others
  bool sum_right = true;      ///< the all-reduce gave the sum
};

/// "rank 3 on node-b"
[[nodiscard]] std::string name_of(const RankProbe& rank);

/// NCCL and MPI libraries, by path, that the text of /proc/self/maps names.
[[nodiscard]] std::vector<std::string> exchange_libraries(const std::string& maps);

/// What can be found without the other ranks. `directories` are looked at by the first rank of a node alone;
/// `marks` are files that rank 0 has made in them, in the same order.
[[nodiscard]] RankProbe probe_rank(const parallel::Communicator& world,
                                   const std::vector<std::filesystem::path>& directories,
                                   const std::vector<std::filesystem::path>& marks);

/// The probes of all ranks, by rank. Collective.
[[nodiscard]] std::vector<RankProbe> gather_probes(const RankProbe& own, parallel::Communicator& world);

}  // namespace sluice::cli::doctor
