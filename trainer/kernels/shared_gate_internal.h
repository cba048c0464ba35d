#pragma once

#include "trainer/kernels/device_spatial.h"
#include "trainer/kernels/shared_gate.h"

// The kinds of SharedGate that multiply by own kernels. Included by shared_gate*.cpp alone.
namespace sluice::kernels {

struct SharedOperands {
  at::Tensor gate_Bth;
  at::Tensor weight_tn;
  Mixing mixing;
  const SequenceExchange& exchange;

  [[nodiscard]] std::vector<Strip> own() const { return exchange.rows().strips(exchange.rank()); }
  /// Own rows and no columns yet.
  [[nodiscard]] SpatialPart part() const {
    return {.own = own(),
            .sums = {},
            .seen = {},
            .batch = gate_Bth.size(0),
            .positions = exchange.rows().positions(),
            .mixing = mixing,
            .runs_beside = true};
  }
};

/// v comes whole in one message, and is multiplied at once.
[[nodiscard]] std::unique_ptr<SharedGate> gather_gate(const SharedOperands& operands);
/// v comes block by block round the ring, each while the one before is multiplied.
[[nodiscard]] std::unique_ptr<SharedGate> pass_gate(const SharedOperands& operands);

}  // namespace sluice::kernels
