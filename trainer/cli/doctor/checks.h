#pragma once

#include <vector>

#include "trainer/cli/doctor/finding.h"
#include "trainer/cli/doctor/probe.h"

// Judgements of what all ranks found; pure. Each gives at least one finding, a good one where nothing is
// wrong.
namespace sluice::cli::doctor {

/// Two files of one library in a process: their symbols mix, and exchanges break without a word.
[[nodiscard]] Findings judge_libraries(const std::vector<RankProbe>& ranks);

/// Ranks against the GPUs that they see. `device_fault`: why the job cannot have its device, or empty.
[[nodiscard]] Findings judge_gpus(const std::vector<RankProbe>& ranks, bool built_with_cuda,
                                  const std::string& device_fault);

/// Whether HDF5 can lock files there, the directory is the same on all nodes, and has room. Fault under 1 GB
/// or 100 inodes, warning under 10 GB or 10,000.
[[nodiscard]] Findings judge_directories(const std::vector<RankProbe>& ranks);

/// MPI and NCCL exchange through /dev/shm within a node: warning under 64 MB free a rank, fault under 16 MB.
[[nodiscard]] Findings judge_shared_memory(const std::vector<RankProbe>& ranks);

/// Warnings: fewer than 1,024 open files, a stack under 8 MB less a page, locked memory limited beside RDMA.
[[nodiscard]] Findings judge_limits(const std::vector<RankProbe>& ranks);

/// Fault: ranks of a node share cores while others are free. Warning: at least half of a node's cores are out
/// of its ranks' reach.
[[nodiscard]] Findings judge_binding(const std::vector<RankProbe>& ranks);

/// Warning over 1 s from rank 0's clock, fault over 60.
[[nodiscard]] Findings judge_clocks(const std::vector<RankProbe>& ranks);

/// Fault: a wrong sum. Warning: broadcasts from or to a rank take three times the median rank's.
[[nodiscard]] Findings judge_exchange(const std::vector<RankProbe>& ranks);

/// Warning: a rank's matrix products have under 0.8 of the median rank's rate.
[[nodiscard]] Findings judge_products(const std::vector<RankProbe>& ranks);

}  // namespace sluice::cli::doctor
