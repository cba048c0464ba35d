#include <ATen/ops/empty.h>
#include <ATen/ops/full.h>
#include <c10/core/GradMode.h>
#include <c10/util/Exception.h>

#include "trainer/model/gmlp.h"

namespace sluice::model {
namespace {

class GmlpCache final : public DecodeCache {
 public:
  GmlpCache(std::size_t layers, std::int64_t positions, std::int64_t half,
            const at::TensorOptions& tensor_options) {
    for (std::size_t layer = 0; layer < layers; ++layer) {
      gates_.push_back(at::empty({positions, half}, tensor_options));
    }
  }
  [[nodiscard]] std::int64_t length() const override { return length_; }

  void set_length(std::int64_t length) { length_ = length; }
  /// Stores gate inputs at positions first, first + 1, ...; returns all from 0 to the last stored, [T, h].
  at::Tensor store(std::size_t layer, std::int64_t first, const at::Tensor& gate_Th) {
    gates_[layer].narrow(0, first, gate_Th.size(0)).copy_(gate_Th);
    return gates_[layer].narrow(0, 0, first + gate_Th.size(0));
  }

 private:
  std::vector<at::Tensor> gates_;
  std::int64_t length_ = 0;
};

GmlpCache& own(DecodeCache& cache) {
  auto* gmlp = dynamic_cast<GmlpCache*>(&cache);
  TORCH_CHECK(gmlp != nullptr, "the cache was made by another kind of model");
  return *gmlp;
}

}  // namespace

std::unique_ptr<DecodeCache> Gmlp::make_cache() const {
  return std::make_unique<GmlpCache>(blocks_.size(), options_.seq_len, options_.d_ffn / 2,
                                     embedding_.options().requires_grad(false));
}

at::Tensor Gmlp::prefill(const at::Tensor& tokens_T, DecodeCache& cache) const {
  TORCH_CHECK(options_.causal, "a model that is not causal cannot decode");
  const at::NoGradGuard no_grad;
  GmlpCache& gates = own(cache);
  gates.set_length(0);
  at::Tensor x_BTd = embed(tokens_T.unsqueeze(0), 0);
  for (std::size_t layer = 0; layer < blocks_.size(); ++layer) {
    const kernels::GateHalves halves = kernels::gate_halves(x_BTd, blocks_[layer]);
    gates.store(layer, 0, halves.gate_BTh[0]);
    x_BTd = kernels::contract(x_BTd, halves.bypass_BTh,
                              kernels::mix_positions(halves.gate_BTh, blocks_[layer]), blocks_[layer]);
  }
  gates.set_length(tokens_T.size(0));
  return head({x_BTd.select(1, tokens_T.size(0) - 1), {}, {}}).squeeze(0);
}

at::Tensor Gmlp::decode(std::int64_t token, DecodeCache& cache) const {
  TORCH_CHECK(options_.causal, "a model that is not causal cannot decode");
  const at::NoGradGuard no_grad;
  GmlpCache& gates = own(cache);
  const std::int64_t position = gates.length();
  at::Tensor x_BTd =
      embed(at::full({1, 1}, token, embedding_.options().dtype(at::kLong).requires_grad(false)), position);
  for (std::size_t layer = 0; layer < blocks_.size(); ++layer) {
    const kernels::GateHalves halves = kernels::gate_halves(x_BTd, blocks_[layer]);
    const at::Tensor gate_Th = gates.store(layer, position, halves.gate_BTh[0]);
    const at::Tensor mixed = kernels::mix_last_position(gate_Th, blocks_[layer]).view({1, 1, -1});
    x_BTd = kernels::contract(x_BTd, halves.bypass_BTh, mixed, blocks_[layer]);
  }
  gates.set_length(position + 1);
  return head({x_BTd.select(1, 0), {}, {}}).squeeze(0);
}

}  // namespace sluice::model
