#include "trainer/kernels/strip_products.h"

#include <ATen/ops/bmm.h>
#include <ATen/ops/sum.h>
#include <ATen/ops/tril.h>

#include <algorithm>

namespace sluice::kernels {
namespace {

/// One block of W: rows `out` by columns `in`, of which the last ones may be cut off.
struct Block {
  Strip out;
  Strip in;
  bool masked = false;

  [[nodiscard]] at::Tensor of(const at::Tensor& matrix_tn) const {
    return matrix_tn.narrow(0, out.row, out.range.count()).narrow(1, in.range.begin, in.range.count());
  }
  [[nodiscard]] at::Tensor mask(const at::Tensor& block) const {
    return masked ? at::tril(block, out.range.begin - in.range.begin) : block;
  }
};

at::Tensor rows_of(const at::Tensor& values, const Strip& strip) {
  return values.narrow(1, strip.row, strip.range.count());
}

template <typename Visit>
void for_each_block(const StripProduct& product, const Visit& visit) {
  for (const Strip& out : product.outputs) {
    for (Strip in : product.inputs) {
      const bool causal = product.mixing == Mixing::kCausal;
      if (causal) in.range.end = std::min(in.range.end, out.range.end);
      if (out.range.count() <= 0 || in.range.count() <= 0) continue;
      visit(Block{out, in, causal && in.range.end > out.range.begin + 1});
    }
  }
}

at::Tensor for_all_sequences(const at::Tensor& matrix, std::int64_t batch) {
  return matrix.expand({batch, matrix.size(0), matrix.size(1)});
}

}  // namespace

void StripProduct::add_mixed(const at::Tensor& sum, const at::Tensor& weight_tn,
                             const at::Tensor& gate) const {
  for_each_block(*this, [&](const Block& block) {
    const at::Tensor weights = for_all_sequences(block.mask(block.of(weight_tn)), gate.size(0));
    rows_of(sum, block.out).add_(at::bmm(weights, rows_of(gate, block.in)));
  });
}

void StripProduct::add_input_gradient(const at::Tensor& sum, const at::Tensor& weight_tn,
                                      const at::Tensor& dmixed) const {
  for_each_block(*this, [&](const Block& block) {
    const at::Tensor weights = for_all_sequences(block.mask(block.of(weight_tn)).t(), dmixed.size(0));
    rows_of(sum, block.in).add_(at::bmm(weights, rows_of(dmixed, block.out)));
  });
}

void StripProduct::add_weight_gradient(const at::Tensor& sum_tn, const at::Tensor& dmixed,
                                       const at::Tensor& gate) const {
  for_each_block(*this, [&](const Block& block) {
    const at::Tensor of_each = at::bmm(rows_of(dmixed, block.out), rows_of(gate, block.in).transpose(1, 2));
    block.of(sum_tn).add_(block.mask(at::sum(of_each, {0}, /*keepdim=*/false, sum_tn.scalar_type())));
  });
}

std::int64_t StripProduct::multiplied() const {
  std::int64_t pairs = 0;
  for_each_block(*this,
                 [&](const Block& block) { pairs += block.out.range.count() * block.in.range.count(); });
  return pairs;
}

}  // namespace sluice::kernels
