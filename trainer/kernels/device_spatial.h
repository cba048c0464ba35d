#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "trainer/kernels/gradient_sum.h"
#include "trainer/kernels/mixing.h"
#include "trainer/kernels/sequence_rows.h"

// The spatial gating unit's products as own kernels for GPUs of compute capability 9.0 (spatial.cu), of all
// of W or, for ranks that share a sequence, of some rows and columns. Shapes as in spatial.h, bfloat16. In a
// build without CUDA has_spatial_kernel is false and the rest throws c10::Error.
namespace sluice::kernels {

/// Rows of W that a kernel's product takes at once; 0: there are none for the type on this device, or no such
/// device.
[[nodiscard]] std::int64_t spatial_kernel_rows(const c10::Device& device, c10::ScalarType type);

/// Whether there are kernels for bfloat16 values [B, T, h] and W, or the sum of its gradients: h and rows of
/// W at multiples of 8, everything 16-byte aligned.
[[nodiscard]] bool has_spatial_kernel(const at::Tensor& values_BTh, const at::Tensor& square_nn);
/// Whether strips begin where the kernels can: at multiples of spatial_kernel_rows(), in the sequence and
/// among a tensor's rows.
[[nodiscard]] bool has_spatial_kernel(const std::vector<Strip>& strips);

/// What becomes of the sum over the seen positions, for each strip of own rows.
enum class SpatialSum {
  kWhole,    ///< it is all there is: bias and gate follow
  kFirst,    ///< the first part: kept in `mixed`
  kFurther,  ///< added to what `mixed` has, and kept there (rounded each time)
  kLast,     ///< added to what `mixed` has; bias and gate follow
};

/// Columns of W, and where their positions' values stand: sequence b's at `outer` + b of [.., T, h].
struct SeenStrip {
  Strip strip;
  std::int64_t outer = 0;
};

/// Which part of W a product multiplies. Tensors of own rows are [B, t, h], W (and the sum of its gradients)
/// [t, n], both with rows where the own strips say. An empty strip is left out.
struct SpatialPart {
  std::vector<Strip> own;
  std::vector<SpatialSum> sums;  ///< for each own strip; empty: all kWhole
  std::vector<SeenStrip> seen;
  std::int64_t batch = 0;
  std::int64_t positions = 0;  ///< n, or those of a shorter call
  Mixing mixing = Mixing::kCausal;
  /// Multiprocessors are given free after every few tiles, for what has to run beside the product: blocks
  /// that stayed to the end would hold an exchange up, and be held up by one.
  bool runs_beside = false;
};
/// All of W[:T, :T], for values [B, T, h].
[[nodiscard]] SpatialPart whole_part(const at::Tensor& values_BTh, Mixing mixing);

/// W's blocks on the diagonal as the products read them; undefined for Mixing::kFull. Of a part's own rows.
[[nodiscard]] at::Tensor spatial_diagonal(const at::Tensor& weight_tn, const SpatialPart& part);

struct SpatialGateTensors {
  at::Tensor gate;        ///< v of seen rows
  at::Tensor weight_tn;   ///< like all below of own rows
  at::Tensor diagonal;    ///< of spatial_diagonal
  at::Tensor bias_n;      ///< of the sequence
  at::Tensor bypass_Bth;  ///< u before GELU; undefined where no strip is gated
  at::Tensor mixed_Bth;   ///< written: W v + b or SpatialSum's parts; undefined: not wanted
  at::Tensor gated_Bth;   ///< written: u's gate; undefined where no strip is gated
};
void device_spatial_gate(const SpatialGateTensors& tensors, const SpatialPart& part);

/// dgate = W^T dmixed of seen rows, plus `added` [B, r, h] (undefined: nothing) on the first r rows.
void device_spatial_input_gradient(const at::Tensor& dgate, const at::Tensor& dmixed_Bth,
                                   const at::Tensor& weight_tn, const at::Tensor& diagonal,
                                   const at::Tensor& added_Brh, const SpatialPart& part);

void add_device_spatial_weight_gradient(const GradientSum& sum_tn, const at::Tensor& dmixed_Bth,
                                        const at::Tensor& gate, const SpatialPart& part);

}  // namespace sluice::kernels
