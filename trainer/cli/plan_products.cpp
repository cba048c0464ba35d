#include "trainer/cli/plan_products.h"

#include <algorithm>

#include "trainer/model/options.h"

namespace sluice::cli {
namespace {

using model::Family;

/// What each builder of a family's products needs. Suffixes: T tokens of the rank, B sequences at once.
struct Sizes {
  const model::ModelOptions& model;
  std::int64_t sp;
  std::int64_t sequences_B;
  std::int64_t tokens_T;
  std::vector<ProductKind>& kinds;

  void channels(std::int64_t inner, std::int64_t columns, std::int64_t count = 1) const {
    kinds.push_back({.shape = {tokens_T, inner, columns}, .count = count * model.layers});
  }
  void positions(const kernels::GemmShape& shape, std::int64_t of_sequence) const {
    kinds.push_back(
        {.shape = shape, .count = of_sequence * sequences_B * model.layers, .over_positions = true});
  }
};

/// Scores, and values weighted by them, of `heads` heads.
void add_attention(const Sizes& s, std::int64_t heads, std::int64_t width) {
  const std::int64_t rows = std::max<std::int64_t>(1, s.model.seq_len / s.sp);
  s.positions({rows, width, s.model.seq_len}, heads);
  s.positions({rows, s.model.seq_len, width}, heads);
}

void add_gmlp(const Sizes& s) {
  const auto& o = s.model;
  const std::int64_t gate = model::gate_channels(o);
  s.channels(o.d_model, o.d_ffn);
  s.channels(gate, o.d_model);
  const std::int64_t rows = std::max<std::int64_t>(1, o.seq_len / s.sp);
  s.positions({rows, o.seq_len, gate / o.spatial_heads}, o.spatial_heads);
  if (o.tiny_attention == 0) return;
  s.channels(o.d_model, 3 * o.tiny_attention);
  s.channels(o.tiny_attention, gate);
  add_attention(s, 1, o.tiny_attention);
}

void add_transformer(const Sizes& s) {
  const auto& o = s.model;
  const bool values_only = o.attention == "positions_only";
  s.channels(o.d_model, (values_only ? 1 : 3) * o.d_model);
  s.channels(o.d_model, o.d_model);
  s.channels(o.d_model, o.d_ffn, o.mlp == "swiglu" ? 2 : 1);
  s.channels(o.d_ffn, o.d_model);
  add_attention(s, o.heads, std::max<std::int64_t>(1, o.d_model / o.heads));
}

void add_mixer(const Sizes& s) {
  const auto& o = s.model;
  s.positions({o.d_spatial, o.seq_len, o.d_model}, 1);
  s.positions({o.seq_len, o.d_spatial, o.d_model}, 1);
  s.channels(o.d_model, o.d_ffn);
  s.channels(o.d_ffn, o.d_model);
}

}  // namespace

std::vector<ProductKind> product_kinds(const train::RunOptions& options, std::int64_t vocabulary_size) {
  std::vector<ProductKind> kinds;
  const std::int64_t sp = options.parallel.sp;
  const std::int64_t tokens =
      std::max<std::int64_t>(1, options.train.micro_batch * options.model.seq_len / sp);
  const Sizes sizes{options.model, sp, options.train.micro_batch, tokens, kinds};
  switch (model::family_of(options.model)) {
    case Family::kGmlp:
      add_gmlp(sizes);
      break;
    case Family::kTransformer:
      add_transformer(sizes);
      break;
    case Family::kMixer:
      add_mixer(sizes);
      break;
  }
  kinds.push_back({.shape = {tokens, options.model.d_model, vocabulary_size}});
  return kinds;
}

ModelProducts model_products(const train::RunOptions& options, std::int64_t vocabulary_size,
                             double element_bytes) {
  ModelProducts all;
  double flops = 0;
  for (const ProductKind& kind : product_kinds(options, vocabulary_size)) {
    const auto count = static_cast<double>(kind.count);
    all.products.push_back(
        {.flops = count * kind.shape.flops(), .bytes = count * element_bytes * kind.shape.elements()});
    flops += all.products.back().flops;
    if (kind.over_positions) all.over_positions += all.products.back().flops;
  }
  all.over_positions /= flops;
  return all;
}

}  // namespace sluice::cli
