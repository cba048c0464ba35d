#pragma once

#include <c10/core/Device.h>

#include <optional>
#include <string>

#include "parallel/communicator.h"
#include "trainer/kernels/peak.h"

namespace sluice::train {

/// What MFU and HFU divide by, FLOP/s of one device at one precision.
struct Peaks {
  std::string device{};               ///< parallel::device_name()
  std::optional<double> measured{};   ///< a large product through ATen, on this machine
  std::optional<double> datasheet{};  ///< dense, by name; none for an unknown GPU and for the CPU
};

/// What multiplies under a train.precision, of fp8, which holds for some products alone, bf16; throws
/// c10::Error for another word.
[[nodiscard]] kernels::Arithmetic arithmetic_of(const std::string& precision);

/// Rank 0 measures its device in less than half a second after start-up of its libraries, all get its
/// figures: every rank divides by the same. `precision` is train.precision. On the CPU over its compute
/// threads. Collective.
[[nodiscard]] Peaks find_peaks(const c10::Device& device, const std::string& precision,
                               parallel::Communicator& world);

}  // namespace sluice::train
