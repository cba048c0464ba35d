#pragma once

#include <cstdint>
#include <vector>

#include "trainer/kernels/peak.h"
#include "trainer/study/plan/step_model.h"
#include "trainer/train/options.h"

namespace sluice::cli {

/// Products of one kind in a micro-batch's forward.
struct ProductKind {
  kernels::GemmShape shape;
  std::int64_t count = 1;  ///< of them
  bool over_positions = false;
};

/// All products of forward of one micro-batch on one rank, dense: over channels, over positions (of ranks
/// that share sequences the rows or channels that are this rank's), and the head.
[[nodiscard]] std::vector<ProductKind> product_kinds(const train::RunOptions& options,
                                                     std::int64_t vocabulary_size);

/// The same as the plan takes them.
struct ModelProducts {
  std::vector<study::plan::Product> products;  ///< of each kind all together
  double over_positions = 0;                   ///< share of their FLOPs
};
[[nodiscard]] ModelProducts model_products(const train::RunOptions& options, std::int64_t vocabulary_size,
                                           double element_bytes);

}  // namespace sluice::cli
