#include "trainer/train/device_group.h"

#include <c10/util/Exception.h>

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

DeviceGroup::DeviceGroup(const std::string& choice, parallel::Communicator& world)
    : world_(world),
      device_(parallel::choose_device(choice_of(choice), parallel::find_place(world), world)),
      name_(parallel::device_name(device_)) {
  if (device_.is_cuda()) parallel::enter_device(device_);
}

void DeviceGroup::connect(parallel::Movers movers) {
  if (device_.is_cpu()) return;
  own_.reset();
  own_ = parallel::make_nccl_communicator(world_, device_, {.movers = movers});
}

parallel::Communicator& DeviceGroup::exchange() {
  TORCH_CHECK(device_.is_cpu() || own_, "DeviceGroup: exchange() before connect()");
  return own_ ? *own_ : world_;
}

}  // namespace sluice::train
