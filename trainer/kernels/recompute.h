#pragma once

namespace sluice::kernels {

/// What backward computes again instead of keeping it.
enum class Recompute {
  kNone,
  kGate,   ///< of every block: GELU, gate norm, spatial product and gating; both halves before GELU are kept
  kBlock,  ///< the whole forward of every block; its input is kept
};

}  // namespace sluice::kernels
