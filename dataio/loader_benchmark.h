#pragma once

#include <cstdint>
#include <memory>

#include "dataio/corpus.h"
#include "dataio/loader.h"
#include "dataio/order.h"

namespace sluice::dataio {

/// What a loader delivered to a consumer that does nothing but read each token once.
struct LoaderRate {
  std::int64_t tokens = 0;  ///< inputs delivered: rows without padding times the sequence length
  double seconds = 0;
  double waited_s = 0;      ///< of which the consumer waited in next()
  double cpu_s = 0;         ///< processor time that the process took: loader, system calls and consumer
  std::int64_t id_sum = 0;  ///< of all ids delivered

  [[nodiscard]] double tokens_per_s() const { return static_cast<double>(tokens) / seconds; }
  /// What one core that does nothing else would deliver, whatever else the machine is doing.
  [[nodiscard]] double tokens_per_cpu_s() const { return static_cast<double>(tokens) / cpu_s; }
  [[nodiscard]] double waited_share() const { return waited_s / seconds; }
};

/// Runs a Loader from step 0 for at least `seconds` (one micro-batch at the least). Throws what Loader
/// throws.
[[nodiscard]] LoaderRate measure_loader(std::shared_ptr<SplitReader> reader, Order order, Slicing slicing,
                                        LoaderOptions options, double seconds);

}  // namespace sluice::dataio
