#include "trainer/train/device_group.h"

#include "parallel/device.h"
#include "parallel/device_stream.h"
#include "parallel/nccl_communicator.h"

namespace sluice::train {
namespace {

parallel::DeviceChoice choice_of(const std::string& name) {
  if (name == "cpu") return parallel::DeviceChoice::kCpu;
  return name == "cuda" ? parallel::DeviceChoice::kCuda : parallel::DeviceChoice::kAuto;
}

}  // namespace

parallel::Movers movers_of(const ParallelOptions& options) {
  if (options.exchange == "copy_engines") return parallel::Movers::kCopyEngines;
  if (options.exchange == "host_memory" && options.sp == 1) return parallel::Movers::kHostMemory;
  const bool divides = options.zero == 1 && options.sp == 1;
  return options.exchange != "kernels" && divides ? parallel::Movers::kPeerMemory
                                                  : parallel::Movers::kNcclKernels;
}

std::string moved_by(const parallel::Communicator& ranks) {
  if (ranks.size() == 1) return "";
  if (ranks.has_host_memory()) return "copy engines, through the host's memory";
  if (ranks.has_peer_memory()) return "copy engines, into peer memory";
  if (ranks.has_copy_engines()) return "copy engines of NCCL";
  return ranks.name() == "nccl" ? "kernels of NCCL" : ranks.name();
}

DeviceGroup::DeviceGroup(const std::string& choice, parallel::Communicator& world, parallel::Movers movers)
    : world_(world),
      device_(parallel::choose_device(choice_of(choice), parallel::find_place(world), world)),
      name_(parallel::device_name(device_)) {
  if (device_.is_cpu()) return;
  parallel::enter_device(device_);
  own_ = parallel::make_nccl_communicator(world, device_, {.movers = movers});
}

}  // namespace sluice::train
