#pragma once

#include <c10/core/Device.h>

#include <memory>
#include <string>

#include "parallel/communicator.h"
#include "trainer/train/options.h"

namespace sluice::train {

/// parallel.exchange, of gradients and parameters. Ranks write to one another's memory for what ZeRO-1
/// divides among all of them: NCCL's all-reduce is the slower for memory that others have mapped (README).
[[nodiscard]] parallel::Movers movers_of(const ParallelOptions& options);

/// What moves gradients and parameters between these ranks, in words; empty for one alone.
[[nodiscard]] std::string moved_by(const parallel::Communicator& ranks);

/// What a rank computes on, and the ranks as they exchange tensors that live there. Made before anything else
/// that touches the device, on the thread that trains; graphs that hold an exchange must go before it.
class DeviceGroup {
 public:
  /// Collective. `choice`: train.device. Throws parallel::DeviceError, parallel::PeerError.
  DeviceGroup(const std::string& choice, parallel::Communicator& world,
              parallel::Movers movers = parallel::Movers::kNcclKernels);

  [[nodiscard]] at::Device device() const { return device_; }
  /// Tensors of the device, in stream order on a GPU, and all else that `world` exchanges.
  [[nodiscard]] parallel::Communicator& exchange() { return own_ ? *own_ : world_; }
  /// parallel::device_name().
  [[nodiscard]] const std::string& name() const { return name_; }

 private:
  parallel::Communicator& world_;
  at::Device device_;
  std::string name_;
  std::unique_ptr<parallel::Communicator> own_;
};

}  // namespace sluice::train
