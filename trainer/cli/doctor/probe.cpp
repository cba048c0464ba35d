#include "trainer/cli/doctor/probe.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sched.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string_view>
#include <thread>

#include "parallel/device.h"
#include "trainer/train/disk_room.h"
#include "trainer/train/files.h"
#include "trainer/train/nodes.h"
#include "trainer/train/scratch_directory.h"

namespace fs = std::filesystem;

namespace sluice::cli::doctor {

NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(Limits, open_files, locked_bytes, stack_bytes)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(DirectoryProbe, path, fault, lock_error, free_bytes, free_inodes,
                                   sees_rank_zero)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(RankProbe, rank, host, local_rank, local_size, libraries, cores,
                                   usable_cores, gpus, limits, gpu_driver, infiniband, hdf5_locks,
                                   shared_memory_free, directories, clock_ahead_s, products_flops, sending_s,
                                   receiving_s, sum_right)

namespace {

std::vector<int> affinity() {
  std::vector<int> cores;
  cpu_set_t set;
  CPU_ZERO(&set);
  if (::sched_getaffinity(0, sizeof set, &set) != 0) return cores;
  for (int core = 0; core < CPU_SETSIZE; ++core)
    if (CPU_ISSET(core, &set)) cores.push_back(core);
  return cores;
}

/// The system cuts a wish for all cores down to those that the job was given. Asked for on a thread of its
/// own, which ends: this one stays where it is bound.
std::vector<int> usable_cores() {
  std::vector<int> cores;
  std::thread([&cores] {
    cpu_set_t all;
    std::memset(&all, 0xff, sizeof all);
    ::sched_setaffinity(0, sizeof all, &all);
    cores = affinity();
  }).join();
  return cores;
}

std::int64_t limit(int resource, rlim_t rlimit::*which) {
  rlimit value{};
  if (::getrlimit(static_cast<__rlimit_resource>(resource), &value) != 0 || value.*which == RLIM_INFINITY)
    return kUnlimited;
  return static_cast<std::int64_t>(value.*which);
}

bool has_entries(const fs::path& directory) {
  std::error_code error;
  const fs::directory_iterator entries(directory, error);
  return !error && entries != fs::directory_iterator();
}

int lock_error(const fs::path& file) {
  const int descriptor = ::open(file.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  if (descriptor < 0) return errno;
  const int error = ::flock(descriptor, LOCK_EX | LOCK_NB) == 0 ? 0 : errno;
  ::close(descriptor);
  return error;
}

DirectoryProbe probe_directory(const fs::path& directory, const fs::path& mark) {
  DirectoryProbe probe{.path = directory.string()};
  std::error_code error;
  probe.sees_rank_zero = mark.empty() || fs::exists(mark, error);
  const train::DiskRoom room = train::room_in(directory).value_or(train::DiskRoom{});
  probe.free_bytes = room.bytes;
  probe.free_inodes = room.inodes.value_or(kUnlimited);
  try {
    const train::ScratchDirectory scratch("doctor", directory);
    probe.lock_error = lock_error(scratch.path() / "lock");
  } catch (const std::exception& fault) {
    probe.fault = fault.what();
  }
  return probe;
}

bool hdf5_locks() {
  const char* value = std::getenv("HDF5_USE_FILE_LOCKING");
  return value == nullptr || std::string_view(value) != "FALSE";
}

}  // namespace

std::string name_of(const RankProbe& rank) { return fmt::format("rank {} on {}", rank.rank, rank.host); }

std::vector<std::string> exchange_libraries(const std::string& maps) {
  std::vector<std::string> found;
  std::istringstream lines(maps);
  for (std::string line; std::getline(lines, line);) {
    const std::size_t slash = line.find('/');
    if (slash == std::string::npos) continue;
    const std::string path = line.substr(slash);
    const std::string name = fs::path(path).filename().string();
    const bool exchanges =
        name.starts_with("libmpi.so") || name.starts_with("libmpich.so") || name.starts_with("libnccl.so");
    if (exchanges && std::ranges::find(found, path) == found.end()) found.push_back(path);
  }
  std::ranges::sort(found);
  return found;
}

RankProbe probe_rank(const parallel::Communicator& world, const std::vector<fs::path>& directories,
                     const std::vector<fs::path>& marks) {
  RankProbe probe{.rank = world.rank(),
                  .host = train::host_name(),
                  .local_rank = world.place().local_rank,
                  .local_size = world.place().local_size,
                  .libraries = exchange_libraries(train::read_file("/proc/self/maps")),
                  .cores = affinity(),
                  .usable_cores = usable_cores(),
                  .gpus = static_cast<std::int64_t>(parallel::report_devices().gpus.size()),
                  .limits = {.open_files = limit(RLIMIT_NOFILE, &rlimit::rlim_max),
                             .locked_bytes = limit(RLIMIT_MEMLOCK, &rlimit::rlim_cur),
                             .stack_bytes = limit(RLIMIT_STACK, &rlimit::rlim_cur)}};
  if (probe.local_rank != 0) return probe;
  probe.gpu_driver = fs::exists("/proc/driver/nvidia/version");
  probe.infiniband = has_entries("/sys/class/infiniband");
  probe.hdf5_locks = hdf5_locks();
  probe.shared_memory_free = train::room_in("/dev/shm").value_or(train::DiskRoom{}).bytes;
  for (std::size_t k = 0; k < directories.size(); ++k)
    probe.directories.push_back(probe_directory(directories[k], marks[k]));
  return probe;
}

std::vector<RankProbe> gather_probes(const RankProbe& own, parallel::Communicator& world) {
  const auto replace = nlohmann::json::error_handler_t::replace;
  std::vector<RankProbe> probes;
  for (const std::string& text : world.all_gather(nlohmann::json(own).dump(-1, ' ', false, replace)))
    probes.push_back(nlohmann::json::parse(text).get<RankProbe>());
  return probes;
}

}  // namespace sluice::cli::doctor
