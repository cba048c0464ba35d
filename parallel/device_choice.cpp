#include <cstdlib>
#include <sstream>

#include "parallel/agree.h"
#include "parallel/device_internal.h"

namespace sluice::parallel {
namespace {

std::optional<std::string> environment(const char* variable) {
  const char* value = std::getenv(variable);
  return value ? std::optional<std::string>(value) : std::nullopt;
}

std::vector<GpuView> exchange_views(Communicator& world) {
  const GpuView own = view_gpus();
  std::vector<GpuView> views;
  for (const std::string& text : world.all_gather(std::to_string(own.visible) + " " + own.fault)) {
    const std::size_t space = text.find(' ');
    views.push_back({std::stoll(text.substr(0, space)), text.substr(space + 1)});
  }
  return views;
}

}  // namespace

std::string device_name(at::Device device) { return device.is_cpu() ? "cpu" : gpu_info(device).name; }

Place find_place(Communicator& world) {
  const Place place = world.place();
  on_all_ranks(world, [&] {
    if (world.name() != "mpi") return;
    for (const char* const variable :
         {"OMPI_COMM_WORLD_LOCAL_RANK", "MPI_LOCALRANKID"})  // Open MPI's, MPICH's
      if (const auto value = environment(variable)) return check_local_rank(place, variable, value);
    // Ranks of an mpirun within a job inherit the variables of the task that started it: not theirs.
    if (environment("SLURM_STEP_NUM_TASKS") == std::to_string(world.size()) &&
        environment("SLURM_PROCID") == std::to_string(world.rank()))
      check_local_rank(place, "SLURM_LOCALID", environment("SLURM_LOCALID"));
  });
  return place;
}

void check_local_rank(const Place& place, const std::string& variable,
                      const std::optional<std::string>& value) {
  if (!value || *value == std::to_string(place.local_rank)) return;
  throw DeviceError("local rank: MPI says " + std::to_string(place.local_rank) + " of " +
                    std::to_string(place.local_size) + ", but " + variable + "=" + *value);
}

bool all_use_gpus(DeviceChoice choice, const std::vector<GpuView>& views) {
  if (choice == DeviceChoice::kCpu) return false;
  std::size_t without = views.size();
  for (std::size_t rank = 0; rank < views.size(); ++rank) {
    if (!views[rank].fault.empty())
      throw DeviceError("rank " + std::to_string(rank) + ": " + views[rank].fault +
                        " (--device cpu computes without)");
    if (views[rank].visible == 0 && without == views.size()) without = rank;
  }
  if (without == views.size()) return true;
  if (choice == DeviceChoice::kAuto) return false;
  throw DeviceError("--device cuda: rank " + std::to_string(without) + " sees no GPU" +
                    (report_devices().built_with_cuda ? "" : ", this build has no CUDA sources"));
}

std::int64_t gpu_index(const Place& place, std::int64_t visible, Sharing sharing) {
  if (visible == 1) return 0;
  if (place.local_rank < visible) return place.local_rank;
  if (sharing == Sharing::kAllowed) return place.local_rank % visible;
  throw DeviceError(std::to_string(place.local_size) + " ranks on this host, but only " +
                    std::to_string(visible) + " GPUs: local rank " + std::to_string(place.local_rank) +
                    " has none (start fewer ranks, or --device cpu)");
}

void check_own_gpus(const std::vector<std::string>& uuids, Sharing sharing) {
  if (sharing == Sharing::kAllowed) return;
  for (std::size_t rank = 1; rank < uuids.size(); ++rank)
    for (std::size_t other = 0; other < rank; ++other)
      if (uuids[other] == uuids[rank])
        throw DeviceError("ranks " + std::to_string(other) + " and " + std::to_string(rank) +
                          " are both on GPU " + uuids[rank] + ": start one rank for each GPU");
}

bool has_code(const std::string& architectures, int major, int minor) {
  std::istringstream list(architectures);
  for (std::string one; std::getline(list, one, ',');) {
    const std::size_t dash = one.find('-');
    const int number = std::atoi(one.c_str());
    const std::string kind = dash == std::string::npos ? "" : one.substr(dash + 1);
    // Machine code runs on its own generation from its own minor version on; "virtual" code is translated.
    if (kind != "virtual" && number / 10 == major && number % 10 <= minor) return true;
    if (kind != "real" && number <= 10 * major + minor) return true;
  }
  return false;
}

at::Device choose_device(DeviceChoice choice, const Place& place, Communicator& world) {
  const Sharing sharing = environment("SLUICE_SHARE_GPU") == "1" ? Sharing::kAllowed : Sharing::kForbidden;
  const std::vector<GpuView> views = exchange_views(world);
  if (!all_use_gpus(choice, views)) return at::kCPU;
  at::Device device(at::kCUDA, 0);
  std::string uuid;
  on_all_ranks(world, [&] {
    const std::int64_t index =
        gpu_index(place, views[static_cast<std::size_t>(world.rank())].visible, sharing);
    device.set_index(static_cast<c10::DeviceIndex>(index));
    use_gpu(index);
    uuid = gpu_info(device).uuid;
  });
  check_own_gpus(world.all_gather(uuid), sharing);
  return device;
}

}  // namespace sluice::parallel
