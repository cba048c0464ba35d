#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

#include "trainer/kernels/mixing.h"
#include "trainer/kernels/sequence_rows.h"

// The product over positions and its gradients for some rows and some columns of W alone: what a rank that
// shares a sequence multiplies. W [t, n]: its rows are where the output strips say (Strip::row; of all of W a
// strip's row is its first position), its columns are positions. A tensor [B, rows of the strips, c] holds
// the positions that its strips say. Blocks above a causal diagonal are left out, those on it masked.
namespace sluice::kernels {

struct StripProduct {
  std::vector<Strip> outputs;  ///< rows of W
  std::vector<Strip> inputs;   ///< columns of W
  Mixing mixing = Mixing::kCausal;

  /// sum [B, outputs, c] += W v.
  void add_mixed(const at::Tensor& sum, const at::Tensor& weight_tn, const at::Tensor& gate) const;
  /// sum [B, inputs, c] += W^T dy.
  void add_input_gradient(const at::Tensor& sum, const at::Tensor& weight_tn, const at::Tensor& dmixed) const;
  /// sum [t, n] += dy v^T over the batch, rows `outputs` and columns `inputs`; of the others' type or wider.
  void add_weight_gradient(const at::Tensor& sum_tn, const at::Tensor& dmixed, const at::Tensor& gate) const;
  /// Pairs of a row and a column that are multiplied, whole blocks on the diagonal included.
  [[nodiscard]] std::int64_t multiplied() const;
};

}  // namespace sluice::kernels
