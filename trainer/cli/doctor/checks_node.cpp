#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <map>
#include <set>

#include "trainer/cli/doctor/checks.h"
#include "trainer/cli/doctor/grouped.h"

// What a node and its processes are like.
namespace sluice::cli::doctor {
namespace {

constexpr double kMegabyte = 1e6, kGigabyte = 1e9;
constexpr std::int64_t kFewInodes = 10'000, kHardlyInodes = 100;
constexpr std::int64_t kFewFiles = 1024;
constexpr std::int64_t kSmallStack = 8'000'000;

std::vector<const RankProbe*> first_ranks(const std::vector<RankProbe>& ranks) {
  std::vector<const RankProbe*> first;
  for (const RankProbe& rank : ranks)
    if (rank.local_rank == 0) first.push_back(&rank);
  return first;
}

std::string library_of(const std::string& path) {
  const std::string name = path.substr(path.rfind('/') + 1);
  return name.starts_with("libnccl") ? "NCCL" : "MPI";
}

/// Which of a directory's faults weighs most.
std::optional<Finding> directory_fault(const DirectoryProbe& probe, bool hdf5_locks) {
  Finding finding{.severity = Severity::kFault, .what = "directory " + probe.path};
  const auto free = static_cast<double>(probe.free_bytes);
  if (!probe.sees_rank_zero) {
    finding.value = "is not the directory that rank 0 sees under this name";
    finding.fix = "corpora and runs belong in a directory that all nodes share";
  } else if (!probe.fault.empty()) {
    finding.severity = Severity::kWarning;
    finding.value = "no file can be made there: " + probe.fault;
    finding.fix = "enough for a corpus, not for runs: name another --dir, or change its permissions";
  } else if (probe.lock_error != 0 && hdf5_locks) {
    finding.value = fmt::format("its file system has no file locks ({}), without which HDF5 opens no file",
                                std::strerror(probe.lock_error));
    finding.fix = "export HDF5_USE_FILE_LOCKING=FALSE (launch/mpirun.sh hands it on)";
  } else if (free < 10 * kGigabyte) {
    if (free >= kGigabyte) finding.severity = Severity::kWarning;
    finding.value = fmt::format("{:.2f} GB free", free / kGigabyte);
    finding.fix = "make room: a checkpoint takes 12 bytes a parameter, and checkpoint.keep of them are kept";
  } else if (probe.free_inodes != kUnlimited && probe.free_inodes < kFewInodes) {
    if (probe.free_inodes >= kHardlyInodes) finding.severity = Severity::kWarning;
    finding.value = fmt::format("{} files more can be made", probe.free_inodes);
    finding.fix = "remove files (df -i), or prepare with a larger --shard-tokens";
  } else {
    return std::nullopt;
  }
  return finding;
}

std::string short_list(const std::set<int>& cores) {
  std::string text;
  std::size_t named = 0;
  for (const int core : cores) {
    if (named++ == 8) return text + ", ...";
    text += (text.empty() ? "" : ", ") + std::to_string(core);
  }
  return text;
}

}  // namespace

Findings judge_libraries(const std::vector<RankProbe>& ranks) {
  Grouped faults;
  for (const RankProbe& rank : ranks) {
    std::map<std::string, std::vector<std::string>> files;
    for (const std::string& path : rank.libraries) files[library_of(path)].push_back(path);
    for (const auto& [library, paths] : files) {
      if (paths.size() < 2) continue;
      faults.add(
          {.severity = Severity::kFault,
           .what = library + " libraries",
           .value = fmt::format("{} in one process: {} and {}", paths.size(), paths[0], paths[1]),
           .fix = "take the folder of one of them out of LD_LIBRARY_PATH and LD_PRELOAD (env | grep ^LD_)"},
          name_of(rank));
    }
  }
  std::string all;
  if (!ranks.empty())
    for (const std::string& path : ranks.front().libraries) all += (all.empty() ? "" : ", ") + path;
  return faults.or_good({.what = "libraries", .value = all.empty() ? "no MPI or NCCL file" : all});
}

Findings judge_gpus(const std::vector<RankProbe>& ranks, bool built_with_cuda,
                    const std::string& device_fault) {
  Grouped found;
  std::int64_t most = 0;
  for (const RankProbe& rank : ranks) most = std::max(most, rank.gpus);
  for (const RankProbe& rank : ranks) {
    if (built_with_cuda && most > 0 && rank.gpus == 0)
      found.add({.severity = Severity::kFault,
                 .what = "GPUs",
                 .value = "no GPU, while other ranks see some: all would compute on CPUs",
                 .fix = "ask for GPUs on every node (srun --gpus-per-task=1), or --device cpu"},
                name_of(rank));
    if (rank.local_rank != 0) continue;
    if (rank.gpu_driver && !built_with_cuda)
      found.add({.severity = Severity::kWarning,
                 .what = "GPUs",
                 .value = "a GPU driver, which this build has no code for: it computes on CPUs",
                 .fix = "build where a CUDA toolkit is: launch/setup --device cuda"},
                rank.host);
    if (rank.gpus > 1 && rank.gpus > rank.local_size)
      found.add({.severity = Severity::kWarning,
                 .what = "GPUs",
                 .value = fmt::format("{} GPUs, {} ranks: the others are idle", rank.gpus, rank.local_size),
                 .fix = "one rank for each GPU: launch/mpirun.sh -n " + std::to_string(rank.gpus)},
                rank.host);
  }
  if (!device_fault.empty())
    found.add(
        {.severity = Severity::kFault,
         .what = "GPUs",
         .value = device_fault,
         .fix = "nvidia-smi on that host shows driver and GPUs; one rank for each GPU, or --device cpu"},
        "the job");
  return found.or_good(
      {.what = "GPUs", .value = most == 0 ? "none visible" : fmt::format("{} visible", most)});
}

Findings judge_directories(const std::vector<RankProbe>& ranks) {
  Grouped found;
  std::string good;
  for (const RankProbe* rank : first_ranks(ranks)) {
    for (const DirectoryProbe& probe : rank->directories) {
      if (const auto fault = directory_fault(probe, rank->hdf5_locks)) {
        found.add(*fault, rank->host);
      } else if (rank == &ranks.front()) {
        good += fmt::format("{}{}: locks, {:.0f} GB free", good.empty() ? "" : "; ", probe.path,
                            static_cast<double>(probe.free_bytes) / kGigabyte);
      }
    }
  }
  return found.or_good({.what = "directories", .value = good});
}

Findings judge_shared_memory(const std::vector<RankProbe>& ranks) {
  Grouped found;
  double least = 0;
  for (const RankProbe* rank : first_ranks(ranks)) {
    const double free = static_cast<double>(rank->shared_memory_free) / kMegabyte;
    const double each = free / static_cast<double>(rank->local_size);
    least = rank == &ranks.front() ? free : std::min(least, free);
    if (each >= 64) continue;
    found.add(
        {.severity = each < 16 ? Severity::kFault : Severity::kWarning,
         .what = "shared memory",
         .value = fmt::format("{:.0f} MB free in /dev/shm for {} ranks; 64 a rank are wanted", free,
                              rank->local_size),
         .fix = "remove what earlier jobs left in /dev/shm; a container needs --shm-size=1g or --ipc=host"},
        rank->host);
  }
  return found.or_good({.what = "shared memory", .value = fmt::format("{:.0f} MB free in /dev/shm", least)});
}

Findings judge_limits(const std::vector<RankProbe>& ranks) {
  Grouped found;
  for (const RankProbe& rank : ranks) {
    const auto warn = [&](const std::string& value, const std::string& fix) {
      found.add({.severity = Severity::kWarning, .what = "limits", .value = value, .fix = fix},
                name_of(rank));
    };
    const Limits& limits = rank.limits;
    if (limits.open_files != kUnlimited && limits.open_files < kFewFiles)
      warn(fmt::format("at most {} open files", limits.open_files),
           "ulimit -n 4096 before the start, or nofile in /etc/security/limits.conf");
    if (limits.stack_bytes != kUnlimited && limits.stack_bytes < kSmallStack)
      warn(fmt::format("a stack of {} bytes", limits.stack_bytes), "ulimit -s 8192 before the start");
    const bool rdma = std::ranges::any_of(
        ranks, [&](const RankProbe& other) { return other.host == rank.host && other.infiniband; });
    if (rdma && limits.locked_bytes != kUnlimited)
      warn(fmt::format("at most {} bytes of locked memory, beside an RDMA device", limits.locked_bytes),
           "ulimit -l unlimited; under Slurm LimitMEMLOCK=infinity for slurmd, "
           "PropagateResourceLimitsExcept=MEMLOCK");
  }
  return found.or_good({.what = "limits", .value = "open files, stack and locked memory suffice"});
}

Findings judge_binding(const std::vector<RankProbe>& ranks) {
  const std::string fix = "start by launch/mpirun.sh, or mpirun --bind-to none; srun --cpus-per-task=N";
  Grouped found;
  std::map<std::string, std::vector<const RankProbe*>> nodes;
  for (const RankProbe& rank : ranks) nodes[rank.host].push_back(&rank);
  for (const auto& [host, members] : nodes) {
    std::set<int> used, shared, usable;
    for (const RankProbe* rank : members) {
      usable.insert(rank->usable_cores.begin(), rank->usable_cores.end());
      for (const int core : rank->cores)
        if (!used.insert(core).second) shared.insert(core);
    }
    std::set<int> idle;
    std::ranges::set_difference(usable, used, std::inserter(idle, idle.end()));
    if (!idle.empty() && !shared.empty()) {
      found.add({.severity = Severity::kFault,
                 .what = "binding",
                 .value = fmt::format("{} ranks share core {}, while {} of {} cores are out of their reach",
                                      members.size(), short_list(shared), idle.size(), usable.size()),
                 .fix = fix},
                host);
    } else if (2 * idle.size() >= usable.size() && !idle.empty()) {
      found.add({.severity = Severity::kWarning,
                 .what = "binding",
                 .value = fmt::format("{} rank{} bound to {} of {} cores", members.size(),
                                      members.size() == 1 ? "" : "s", used.size(), usable.size()),
                 .fix = fix},
                host);
    }
  }
  return found.or_good(
      {.what = "binding",
       .value = ranks.empty() ? ""
                              : fmt::format("{} cores for {} ranks on {}", ranks.front().usable_cores.size(),
                                            ranks.front().local_size, ranks.front().host)});
}

}  // namespace sluice::cli::doctor
