#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

#include "trainer/kernels/dropout.h"
#include "trainer/kernels/linear.h"
#include "trainer/kernels/recompute.h"
#include "trainer/kernels/transformer_block.h"

// The block of an MLP-Mixer (Tolstikhin et al. 2021, equation 1) by ATen operators that record autograd: an
// MLP over positions, the same for every channel, then one over channels. Shape suffixes: B batch, T
// positions of this call (T <= n), d d_model, s d_spatial, f d_ffn.
namespace sluice::kernels {

/// One block's parameters, all of one dtype and device.
struct MixerBlock {
  Norm token_norm;
  Linear token_expand;    ///< [s, n]; a sequence of T positions reads the first T columns
  Linear token_contract;  ///< [n, s]; of it and its bias the first T rows are used. The bias is the
                          ///< original's, though every norm takes it off again
  Norm mlp_norm;
  Linear expand;                              ///< [f, d]
  Linear contract;                            ///< [d, f]
  Activation activation = Activation::kGelu;  ///< kGelu or kGeluTanh, of both MLPs
  Recompute recompute = Recompute::kNone;     ///< kNone or kBlock
  std::int64_t first_site = 0;  ///< of dropout: this and the next kMixerSites - 1 are the block's
};
/// Both branches.
inline constexpr std::int64_t kMixerSites = 2;

/// x + token MLP, then + channel MLP, each of the norm of what it is added to; `rates` (whatever its site)
/// drops of both branches. x_BTd contiguous, of residual_type; returns [B, T, d] contiguous, of x's type.
[[nodiscard]] at::Tensor mixer_block(const at::Tensor& x_BTd, const MixerBlock& block,
                                     const Dropout& rates = {});

}  // namespace sluice::kernels
