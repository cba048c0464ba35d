#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/full.h>
#include <c10/core/GradMode.h>
#include <c10/util/Exception.h>

#include "trainer/kernels/token_shift.h"
#include "trainer/model/gmlp.h"

namespace sluice::model {
namespace {

/// For each layer the normalised gate inputs of the positions so far; of tiny attention their keys and
/// values; of a shift of tokens the last rows of the block's input.
class GmlpCache final : public DecodeCache {
 public:
  GmlpCache(const ModelOptions& options, const at::TensorOptions& tensor_options) {
    const std::int64_t positions = options.seq_len;
    const auto make = [&](std::int64_t rows, std::int64_t channels) {
      return at::empty({rows, channels}, tensor_options);
    };
    for (std::int64_t layer = 0; layer < options.layers; ++layer) {
      gates_.push_back(make(positions, gate_channels(options)));
      keys_.push_back(make(positions, options.tiny_attention));
      values_.push_back(make(positions, options.tiny_attention));
      shifted_.push_back(make(options.token_shift, options.d_model));
    }
  }
  [[nodiscard]] std::int64_t length() const override { return length_; }

  void set_length(std::int64_t length) { length_ = length; }
  void start() {
    length_ = 0;
    for (at::Tensor& rows : shifted_) rows.zero_();
  }
  /// Stores gate inputs at positions length(), length() + 1, ...; returns all from 0 to the last stored, [T,
  /// c].
  at::Tensor store_gate(std::size_t layer, const at::Tensor& gate_Tc) {
    return store(gates_[layer], gate_Tc);
  }
  /// The same of keys and values; the queries are those given.
  kernels::TinyHead store_head(std::size_t layer, const kernels::TinyHead& head) {
    const auto with = [&](at::Tensor& kept, const at::Tensor& new_B1Ta) {
      return store(kept, new_B1Ta[0][0]).view({1, 1, -1, new_B1Ta.size(3)});
    };
    return {head.q_B1Ta, with(keys_[layer], head.k_B1Sa), with(values_[layer], head.v_B1Sa)};
  }
  /// The shift of new rows behind those that came before them.
  at::Tensor shift(std::size_t layer, const at::Tensor& input_BTd) {
    at::Tensor& before = shifted_[layer];
    const std::int64_t reach = before.size(0);
    if (reach == 0) return input_BTd;
    const at::Tensor rows = at::cat({before.unsqueeze(0), input_BTd}, 1);
    before.copy_(rows[0].narrow(0, rows.size(1) - reach, reach));
    return kernels::shift_tokens(rows, reach, kernels::Mixing::kCausal)
        .narrow(1, reach, input_BTd.size(1))
        .contiguous();
  }

 private:
  at::Tensor store(at::Tensor& kept, const at::Tensor& rows) const {
    kept.narrow(0, length_, rows.size(0)).copy_(rows);
    return kept.narrow(0, 0, length_ + rows.size(0));
  }

  std::vector<at::Tensor> gates_;
  std::vector<at::Tensor> keys_;
  std::vector<at::Tensor> values_;
  std::vector<at::Tensor> shifted_;
  std::int64_t length_ = 0;
};

GmlpCache& own(DecodeCache& cache) {
  auto* gmlp = dynamic_cast<GmlpCache*>(&cache);
  TORCH_CHECK(gmlp != nullptr, "the cache was made by another kind of model");
  return *gmlp;
}

/// The block's forward of positions length() and on of one sequence: a whole prompt, or one token.
at::Tensor forward_block(const at::Tensor& x_BTd, const kernels::GmlpBlock& block, std::size_t layer,
                         GmlpCache& cache) {
  const bool first = cache.length() == 0;
  const kernels::GateInputs inputs =
      kernels::gate_inputs(cache.shift(layer, kernels::block_input(x_BTd, block)), block);
  const at::Tensor gate_Tc = cache.store_gate(layer, inputs.gate_BTc[0]);
  const kernels::SpatialMix mix = kernels::spatial_mix(block);
  at::Tensor mixed = first ? kernels::mix_positions(inputs.gate_BTc, mix)
                           : kernels::mix_last_position(gate_Tc, mix).view({1, 1, -1});
  if (const auto& attention = block.variant.attention; attention.defined()) {
    const kernels::TinyHead seen = cache.store_head(layer, kernels::tiny_head(inputs.qkv_T3a, 1));
    // The newest position sees all that are there.
    const kernels::Mixing who = first ? kernels::Mixing::kCausal : kernels::Mixing::kFull;
    mixed = mixed.add(kernels::attend(seen, who, attention).view(mixed.sizes()));
  }
  return kernels::contract(x_BTd, inputs.bypass_BTc, mixed, block);
}

}  // namespace

std::unique_ptr<DecodeCache> Gmlp::make_cache() const {
  auto cache = std::make_unique<GmlpCache>(options_, embedding_.options().requires_grad(false));
  cache->start();
  return cache;
}

at::Tensor Gmlp::advance(const at::Tensor& tokens_1T, DecodeCache& cache) const {
  TORCH_CHECK(options_.causal, "a model that is not causal cannot decode");
  check_whole();
  const at::NoGradGuard no_grad;
  GmlpCache& kept = own(cache);
  const std::int64_t end = kept.length() + tokens_1T.size(1);
  at::Tensor x_BTd = embed(tokens_1T, {kept.length(), tokens_1T.size(1)});
  for (std::size_t layer = 0; layer < blocks_.size(); ++layer)
    x_BTd = forward_block(x_BTd, blocks_[layer], layer, kept);
  kept.set_length(end);
  return head({x_BTd.select(1, x_BTd.size(1) - 1), {}, {}}).squeeze(0);
}

at::Tensor Gmlp::prefill(const at::Tensor& tokens_T, DecodeCache& cache) const {
  own(cache).start();
  return advance(tokens_T.unsqueeze(0), cache);
}

at::Tensor Gmlp::decode(std::int64_t token, DecodeCache& cache) const {
  return advance(at::full({1, 1}, token, embedding_.options().dtype(at::kLong).requires_grad(false)), cache);
}

}  // namespace sluice::model
