#pragma once

#include <c10/core/Device.h>
#include <c10/core/ScalarType.h>

#include <cstdint>

#include "trainer/kernels/recompute.h"
#include "trainer/model/options.h"

namespace sluice::model {

using kernels::Recompute;

/// FLOPs (2 x multiply-adds) of forward and backward for one token, of matrix products alone; backward counts
/// twice forward. The formulas are in README under "How the figures are defined".
struct FlopCount {
  /// What the model asks for: logits of the predicted positions, and causal position i mixes i + 1 positions,
  /// n (n + 1) / 2 for a sequence.
  double useful_per_token = 0;
  /// What the program runs: logits of every position, spatial products of whole tiles (SpatialRun), and those
  /// products that `recompute` runs again. Of attention the flash kernel's, which skips what is masked (tiles
  /// on the diagonal counted by their used half), and computes the scores a second time in backward; with
  /// dropout or relative positions the dense products.
  double executed_per_token = 0;
};
/// How W is multiplied: rows of it that one product takes at once, which if causal ends with the last of
/// them; 0: all of W, its masked half too. So it is of a free W
/// without the fused block (trainer/kernels/fused_block.h).
struct SpatialRun {
  std::int64_t rows_at_once = 0;
};
/// `predicted`: share of the positions whose logits the objective asks for.
[[nodiscard]] FlopCount count_flops(const ModelOptions& options, std::int64_t vocabulary_size,
                                    Recompute recompute = Recompute::kNone, double predicted = 1,
                                    SpatialRun spatial = {});
/// As a replica's blocks run on `device` in `compute`. A GPU that is not in this machine is taken for one
/// without own kernels.
[[nodiscard]] SpatialRun spatial_run(const ModelOptions& options, const c10::Device& device,
                                     c10::ScalarType compute);

/// Share of `peak_flops` (FLOP/s of one device) that tokens_per_s of one device at `flops_per_token` are: MFU
/// from useful, HFU from executed FLOPs. Throws c10::Error for a peak that is not above zero.
[[nodiscard]] double flop_utilisation(double flops_per_token, double tokens_per_s, double peak_flops);

}  // namespace sluice::model
