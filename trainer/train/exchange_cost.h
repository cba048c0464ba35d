#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "parallel/link_model.h"
#include "trainer/kernels/mixing.h"
#include "trainer/kernels/sequence_exchange.h"

// What the product over positions costs ranks that share sequences, by mode: parallel.sp_mode = auto takes
// the cheapest. Pure.

namespace sluice::train {

/// One layer's product W v of one micro-batch.
struct ExchangeShape {
  kernels::SequenceRows rows;
  std::int64_t batch = 1;     ///< sequences at once
  std::int64_t channels = 1;  ///< c
  std::int64_t heads = 1;     ///< each with a W of its own
  kernels::Mixing mixing = kernels::Mixing::kCausal;
  bool free = true;                ///< n^2 weights for each head, not those of a Toeplitz matrix
  std::int64_t compute_bytes = 4;  ///< of an element of what travels
  std::int64_t master_bytes = 4;   ///< of a gradient, a parameter, a moment
  std::int64_t data_ranks = 1;     ///< rows of ranks, which sum gradients
  std::int64_t micro_batches = 1;  ///< of a step: gradients are summed and parameters updated once
};

/// What the machine does, measured. A link's bytes are those of all ranks' chunks together
/// (parallel::time_collective), a pass's those of its message.
struct ExchangeRates {
  parallel::LinkModel all_to_all;
  parallel::LinkModel all_gather;
  parallel::LinkModel reduce_scatter;
  parallel::LinkModel pass;
  parallel::LinkModel all_reduce;
  double flops_per_s = 0;         ///< of a product of all channels
  double narrow_flops_per_s = 0;  ///< of one of a rank's share of the channels
  double pass_bytes_per_s = 0;    ///< of what an update reads and writes
  bool skips_triangle = false;    ///< an update leaves out what a causal W never reads
  double passes_hidden = 0;       ///< share of a ring's messages that products beside them hide: 0 ... 1
  double gathers_hidden = 0;      ///< likewise of a gather, and of the sum of what came back
};

/// Seconds of one layer in a step, on the rank that has most to do.
struct ExchangePrediction {
  kernels::ExchangeMode mode = kernels::ExchangeMode::kAllToAll;
  double exchange_s = 0;  ///< that products do not hide
  double product_s = 0;   ///< forward and backward
  double gradient_s = 0;  ///< sum of W's gradient over the ranks that have the same rows of it
  double update_s = 0;    ///< of W

  [[nodiscard]] double total_s() const { return exchange_s + product_s + gradient_s + update_s; }
};

/// The three modes, or of several heads those that can. By rank r, in forward and backward together:
///   all-to-all  5 all-to-alls of B n c; every pair of positions (causal: blocks up to the diagonal) for
///               c / ranks channels, three times; the gradient of all of W summed over all ranks
///   row-sharded 2 all-gathers and a reduce-scatter of B n c, of which forward waits for the first piece
///               (kernels::gathered_first), the rest goes on beside products, or in backward the passes
///               before them; its rows of W for all c channels, three times; the gradient of its rows summed
///               over the rows of ranks
///   ring        the same products block by block, with 3 (ranks - 1) messages beside them
[[nodiscard]] std::vector<ExchangePrediction> predict_exchanges(const ExchangeShape& shape,
                                                                const ExchangeRates& rates);
/// The one of the least total.
[[nodiscard]] const ExchangePrediction& cheapest(const std::vector<ExchangePrediction>& predictions);

/// "alltoall 1.20 ms (exchange 0.50, products 0.60, gradient 0.10, update 0.00), ring ...", of one layer.
[[nodiscard]] std::string prediction_text(const std::vector<ExchangePrediction>& predictions);

}  // namespace sluice::train
