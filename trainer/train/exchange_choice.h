#pragma once

#include <c10/core/Device.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "parallel/communicator.h"
#include "trainer/train/device_group.h"
#include "trainer/train/exchange_cost.h"
#include "trainer/train/options.h"

namespace sluice::train {

/// The choice's name in a checkpoint, of so many ranks that share sequences: an ExchangeMode.
[[nodiscard]] std::string exchange_choice_name(std::int64_t sp);

/// The product over positions of one layer of such a run on `ranks` ranks. parallel.sp is above 1.
[[nodiscard]] ExchangeShape exchange_shape(const RunOptions& options, std::int64_t ranks);

/// Predictions for a run's layer from rates that are measured now (in about a second): rank 0's on all ranks.
/// Empty where modes are no question of time: without shared sequences, and for other models than a gMLP.
/// Collective.
[[nodiscard]] std::vector<ExchangePrediction> measure_predictions(const RunOptions& options,
                                                                  DeviceGroup& group);

struct ExchangeChoice {
  RunOptions options;  ///< parallel.sp_mode is no longer auto where that was measured or kept
  std::vector<ExchangePrediction> predictions;  ///< empty where nothing was measured
};
/// What parallel.sp_mode = auto is: `kept`, what an earlier session of the run took, or the mode that
/// measure_predictions() has cheapest. Other settings stay as they are. Collective.
[[nodiscard]] ExchangeChoice choose_exchange(RunOptions options, std::optional<kernels::ExchangeMode> kept,
                                             DeviceGroup& group);

}  // namespace sluice::train
