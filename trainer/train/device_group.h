#pragma once

#include <c10/core/Device.h>

#include <memory>
#include <string>

#include "parallel/communicator.h"

namespace sluice::train {

/// What a rank computes on, and the ranks as they exchange tensors that live there. Made before anything else
/// that touches the device, on the thread that trains; graphs that hold an exchange must go before it.
class DeviceGroup {
 public:
  /// Collective. `choice`: train.device. Throws parallel::DeviceError, parallel::PeerError.
  DeviceGroup(const std::string& choice, parallel::Communicator& world);

  /// Between GPUs, anew where it was called before: nothing may hold what exchange() gave. Collective.
  void connect(parallel::Movers movers = parallel::Movers::kNcclKernels);

  [[nodiscard]] at::Device device() const { return device_; }
  /// Of what lives on the host alone.
  [[nodiscard]] parallel::Communicator& world() const { return world_; }
  /// Tensors of the device, in stream order on a GPU, and all else that world() exchanges. After connect().
  [[nodiscard]] parallel::Communicator& exchange();
  /// parallel::device_name().
  [[nodiscard]] const std::string& name() const { return name_; }

 private:
  parallel::Communicator& world_;
  at::Device device_;
  std::string name_;
  std::unique_ptr<parallel::Communicator> own_;
};

}  // namespace sluice::train
