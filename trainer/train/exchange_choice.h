#pragma once

#include <c10/core/Device.h>

#include <cstdint>
#include <vector>

#include "parallel/communicator.h"
#include "trainer/train/exchange_cost.h"
#include "trainer/train/options.h"

namespace sluice::train {

/// What parallel.sp_mode = auto is for such a model without measurement.
[[nodiscard]] kernels::ExchangeMode assumed_mode(const RunOptions& options);

/// Whether modes differ in time alone, so that measuring decides: of a gMLP they do.
[[nodiscard]] bool measures_exchange(const RunOptions& options);

/// The product over positions of one layer of such a run on `ranks` ranks. parallel.sp is above 1.
[[nodiscard]] ExchangeShape exchange_shape(const RunOptions& options, std::int64_t ranks);

/// Of the ranks that share sequences with this one (`row`, on `device`) and of all (`world`, which sums
/// gradients): measured (in about a second), and rank 0's on all. Collective over `world`.
[[nodiscard]] ExchangeRates measure_exchange(const ExchangeShape& shape, parallel::Communicator& row,
                                             parallel::Communicator& world, c10::Device device);

}  // namespace sluice::train
