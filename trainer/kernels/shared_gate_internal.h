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

  /// The ring's messages are of no staged memory, and with more ranks than two copies within the GPU are part
  /// of an exchange.
  [[nodiscard]] bool mode_needs_cores() const {
    return exchange.mode() != ExchangeMode::kRowShard || !exchange.spares_cores() ||
           exchange.rows().ranks() > 2;
  }
  [[nodiscard]] std::vector<Strip> own() const { return exchange.rows().strips(exchange.rank()); }
  /// Own rows and no columns yet.
  [[nodiscard]] SpatialPart part() const {
    return {.own = own(),
            .sums = {},
            .seen = {},
            .batch = gate_Bth.size(0),
            .positions = exchange.rows().positions(),
            .mixing = mixing,
            .runs_beside = mode_needs_cores()};
  }
};

/// v is made and comes by pieces: the first while own kernels have nothing to multiply, the others beside
/// products of those before.
[[nodiscard]] std::unique_ptr<SharedGate> gather_gate(const SharedOperands& operands,
                                                      const GateWriter& write);
/// v is there, and comes as a whole beside what a backward computes first.
[[nodiscard]] std::unique_ptr<SharedGate> gather_gate_again(const SharedOperands& operands);
/// v comes block by block round the ring, each while the one before is multiplied.
[[nodiscard]] std::unique_ptr<SharedGate> pass_gate(const SharedOperands& operands);

}  // namespace sluice::kernels
