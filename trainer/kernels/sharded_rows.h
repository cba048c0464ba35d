#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "trainer/kernels/sequence_exchange.h"

// Between the rows that each rank holds of a sequence and those of all of it. Shape suffixes: B batch, t
// positions that this rank holds, n positions of the sequence, c channels.
namespace sluice::kernels {

/// Copies rows that a rank holds to where they stand in the sequence, and back.
void put_rows(const at::Tensor& whole_Bnc, const at::Tensor& held, const std::vector<Strip>& strips);
void take_rows(const at::Tensor& held, const at::Tensor& whole_Bnc, const std::vector<Strip>& strips);

/// Zeroed parts [ranks, B, most, channels], of one size whatever each rank holds, else like `like`.
[[nodiscard]] at::Tensor make_parts(const at::Tensor& like, std::int64_t channels, const SequenceRows& rows);

/// Every rank's rows in their places: [B, t, c] -> [B, n, c]. No autograd.
[[nodiscard]] at::Tensor gathered_rows(const at::Tensor& held_Btc, const SequenceExchange& exchange);
/// The rank's rows of the sum over ranks: [B, n, c] -> [B, t, c]. No autograd.
[[nodiscard]] at::Tensor summed_rows(const at::Tensor& whole_Bnc, const SequenceExchange& exchange);
/// Own positions of all channels -> all positions of own channels, [B, n, w], of one width on all ranks: what
/// c lacks is zero. No autograd.
[[nodiscard]] at::Tensor to_channels(const at::Tensor& held_Btc, const SequenceExchange& exchange);
/// And back: [B, n, w] -> [B, t, channels]. No autograd.
[[nodiscard]] at::Tensor to_positions(const at::Tensor& whole_Bnw, std::int64_t channels,
                                      const SequenceExchange& exchange);
/// gathered_rows, differentiable: backward sums over ranks what each makes of the rows.
[[nodiscard]] at::Tensor gather_positions(const at::Tensor& held_Btc, const SequenceExchange& exchange);

}  // namespace sluice::kernels
