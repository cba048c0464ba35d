#pragma once

#include <cstdint>
#include <string>

#include "parallel/communicator.h"
#include "trainer/train/options.h"
#include "trainer/train/replica.h"

namespace sluice::train {

/// The algorithms of a step's linear products (kernels/product_table.h), the same on all ranks.
struct ProductChoice {
  std::string
      table{};  ///< its text, kept with the run; empty: none was chosen, the library's heuristic decides
  std::int64_t tuned = 0;  ///< products that were timed here
  double seconds = 0;      ///< that it took
};

/// Rank 0 runs forward and backward of one micro-batch of no meaning to see which products there are, times
/// those that `kept` does not hold (its own checkpoint's table, taken where device and library are the same),
/// and shares the table, which all ranks install. The replica holds its parameters; afterwards its gradients
/// are zero on rank 0 and all else is as before. Where nothing is to be chosen (on CPUs, under
/// train.tune = off) all ranks fall back to the heuristic. Collective; before the first step. Throws
/// InputError for a kept table that it cannot read.
[[nodiscard]] ProductChoice choose_products(const RunOptions& options, Replica& replica,
                                            const std::string& kept, parallel::Communicator& world);

/// "11 tuned on NVIDIA H200 with cuBLASLt 130100", "untuned" for an empty table.
[[nodiscard]] std::string product_summary(const std::string& table);

}  // namespace sluice::train
