#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <memory>

#include "trainer/kernels/mixing.h"
#include "trainer/kernels/sequence_exchange.h"
#include "trainer/kernels/spatial.h"

// The spatial gating unit of a fused block on ranks that share sequences (SequenceExchange): spatial.h's
// products, of a gate input whose other rows are on their way while something else is computed. t positions
// of this rank in the order of SequenceRows::held, n of the sequence.
namespace sluice::kernels {

/// The gate's input v and its way to the ranks that multiply it, for one call: mix() forward, back()
/// backward. Nothing that came from another rank outlives it. Sums of parts are kept in v's type between
/// them.
class SharedGate {
 public:
  virtual ~SharedGate() = default;
  SharedGate(const SharedGate&) = delete;
  SharedGate& operator=(const SharedGate&) = delete;

  /// spatial_gate() of own rows: u before GELU, [B, t, h], rows at any stride; b [n] whole.
  [[nodiscard]] virtual SpatialGate mix(const at::Tensor& bypass_Bth, const at::Tensor& bias_n,
                                        Keep keep) = 0;

  /// sum += ds v^T of own rows of W, each element once, then `weight_done`; returns dv of own rows, [B, t,
  /// h], which stand until the next call of back(). `diagonal` as mix() gave it.
  [[nodiscard]] virtual at::Tensor back(const GradientSum& sum, const at::Tensor& dmixed_Bth,
                                        const at::Tensor& diagonal,
                                        const std::function<void()>& weight_done) = 0;

 protected:
  SharedGate() = default;
};

/// Sequences of a batch whose v is gathered first in forward (kRowShard): it is waited for, the others'
/// travels beside its products.
[[nodiscard]] std::int64_t gathered_first(std::int64_t batch);

/// Makes sequences [first, first + count) of v where it is kept, and again in the memory that they are sent
/// from, [count t, h], unless that is undefined.
using GateWriter = std::function<void(std::int64_t first, std::int64_t count, const at::Tensor& again_Th)>;

/// For mix(): has v [B, t, h] made by `write` and sends it on its way, as exchange.mode() says: by own
/// kernels where W is of their kind, else by ATen's products. W [n, n] under kAllToAll, otherwise the rank's
/// rows of it, [t, n]. The exchange outlives the result.
[[nodiscard]] std::unique_ptr<SharedGate> share_gate(const at::Tensor& gate_Bth, const at::Tensor& weight,
                                                     Mixing mixing, const SequenceExchange& exchange,
                                                     const GateWriter& write);
/// For back(): the same, of a v that is there.
[[nodiscard]] std::unique_ptr<SharedGate> share_gate_again(const at::Tensor& gate_Bth,
                                                           const at::Tensor& weight, Mixing mixing,
                                                           const SequenceExchange& exchange);

}  // namespace sluice::kernels
