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

DeviceGroup::DeviceGroup(const std::string& choice, parallel::Communicator& world,
                         const std::string& exchange)
    : world_(world),
      device_(parallel::choose_device(choice_of(choice), parallel::find_place(world), world)),
      name_(parallel::device_name(device_)) {
  if (device_.is_cpu()) return;
  parallel::enter_device(device_);
  const auto engines =
      exchange == "copy_engines" ? parallel::CopyEngines::kWhereTheyCan : parallel::CopyEngines::kUnused;
  own_ = parallel::make_nccl_communicator(world, device_, {.copy_engines = engines});
}

}  // namespace sluice::train
