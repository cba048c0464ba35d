#include "trainer/kernels/ring_mixing.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>

#include <memory>
#include <utility>
#include <vector>

#include "trainer/kernels/ring.h"
#include "trainer/kernels/strip_products.h"

namespace sluice::kernels {
namespace {

StripProduct product_of(const Ring& ring, std::int64_t owner) {
  return {ring.exchange.rows().strips(ring.rank()), ring.needed(owner, ring.rank()), ring.mixing};
}

at::Tensor rows_like(const at::Tensor& like_Btc, std::int64_t rows) {
  return at::empty({like_Btc.size(0), rows, like_Btc.size(2)}, like_Btc.options());
}

/// Calls `visit(owner, block)` with every rank's block of the gate, the own one first.
template <typename Visit>
void visit_blocks(const at::Tensor& gate_Btc, const Ring& ring, const Visit& visit) {
  at::Tensor block = gate_Btc;
  for (std::int64_t step = 0; step < ring.ranks(); ++step) {
    at::Tensor sent;
    at::Tensor next;
    std::unique_ptr<SequenceExchange::Passing> passing;
    if (step + 1 < ring.ranks()) {
      sent = block.narrow(1, 0, ring.needed_rows(ring.owner(step), ring.before())).contiguous();
      next = rows_like(block, ring.needed_rows(ring.owner(step + 1), ring.rank()));
      passing = ring.exchange.pass(sent, ring.before(), next, ring.after());
    }
    visit(ring.owner(step), block);
    if (passing) passing->wait();
    block = std::move(next);
  }
}

}  // namespace

at::Tensor ring_mixed(const at::Tensor& gate_Btc, const at::Tensor& weight_tn, Mixing mixing,
                      const SequenceExchange& exchange) {
  const Ring ring{exchange, mixing};
  at::Tensor out = at::zeros_like(gate_Btc);
  visit_blocks(gate_Btc, ring, [&](std::int64_t owner, const at::Tensor& block) {
    product_of(ring, owner).add_mixed(out, weight_tn, block);
  });
  return out;
}

void ring_weight_gradient(const at::Tensor& sum_tn, const at::Tensor& dmixed_Btc, const at::Tensor& gate_Btc,
                          Mixing mixing, const SequenceExchange& exchange) {
  const Ring ring{exchange, mixing};
  visit_blocks(gate_Btc, ring, [&](std::int64_t owner, const at::Tensor& block) {
    product_of(ring, owner).add_weight_gradient(sum_tn, dmixed_Btc, block);
  });
}

at::Tensor ring_input_gradient(const at::Tensor& dmixed_Btc, const at::Tensor& weight_tn, Mixing mixing,
                               const SequenceExchange& exchange) {
  const Ring ring{exchange, mixing};
  at::Tensor sent;
  at::Tensor received;
  std::unique_ptr<SequenceExchange::Passing> passing;
  for (std::int64_t step = ring.ranks(); step-- > 0;) {
    const std::int64_t owner = ring.owner(step);
    at::Tensor sum = rows_like(dmixed_Btc, ring.needed_rows(owner, ring.rank())).zero_();
    product_of(ring, owner).add_input_gradient(sum, weight_tn, dmixed_Btc);
    if (passing) {
      passing->wait();
      sum.narrow(1, 0, received.size(1)).add_(received);  // its tail begins at rank 0
    }
    if (step == 0) return sum;
    sent = std::move(sum);
    received = rows_like(dmixed_Btc, ring.needed_rows(ring.owner(step - 1), ring.before()));
    passing = ring.exchange.pass(sent, ring.after(), received, ring.before());
  }
  return sent;
}

}  // namespace sluice::kernels
