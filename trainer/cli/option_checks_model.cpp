#include <fmt/format.h>

#include <algorithm>

#include "trainer/cli/option_checks.h"
#include "trainer/cli/option_table.h"

// Faults between settings of the model, and of the model and its objective.

namespace sluice::cli {
namespace {

using Faults = std::vector<CombinationFault>;

/// What only one family has, set for the other.
void check_family_keys(const train::RunOptions& o, Faults& faults) {
  struct FamilyKey {
    const char* key;
    const char* kind;
  };
  static constexpr FamilyKey kKeys[] = {{"model.heads", "transformer"},
                                        {"model.norm", "transformer"},
                                        {"model.mlp", "transformer"},
                                        {"model.bias", "transformer"},
                                        {"model.attention", "transformer"},
                                        {"model.rotary_base", "transformer"},
                                        {"model.gate", "gmlp"},
                                        {"model.spatial", "gmlp"},
                                        {"model.spatial_heads", "gmlp"},
                                        {"model.gate_activation", "gmlp"},
                                        {"model.gate_norm", "gmlp"},
                                        {"model.tiny_attention", "gmlp"},
                                        {"model.tiny_attention_qkv_bias", "gmlp"},
                                        {"model.token_shift", "gmlp"},
                                        {"model.stochastic_depth", "gmlp"},
                                        {"model.spatial_init", "gmlp"},
                                        {"model.spatial_init_per_position", "gmlp"},
                                        {"model.d_spatial", "mixer"}};
  for (const auto& [key, kind] : kKeys) {
    if (o.model.kind == kind) continue;
    const auto row = std::find_if(option_table().begin(), option_table().end(),
                                  [key = key](const OptionRow& one) { return one.key == key; });
    if (row->get(o) == row->default_text) continue;
    faults.push_back({{key, "model.kind"},
                      fmt::format("{} = {}: is of model.kind = {} alone, a {} has nothing of the kind", key,
                                  row->get(o), kind, o.model.kind)});
  }
}

void check_gmlp(const model::ModelOptions& m, Faults& faults) {
  if (m.gate == "split" && m.d_ffn % 2 != 0) {
    faults.push_back({{"model.d_ffn", "model.gate", "model.kind"},
                      fmt::format("model.d_ffn = {}: must be even, the gate takes one half of it", m.d_ffn)});
  } else if (const std::int64_t channels = model::gate_channels(m); channels % m.spatial_heads != 0) {
    faults.push_back(
        {{"model.spatial_heads", "model.d_ffn", "model.gate", "model.kind"},
         fmt::format("model.spatial_heads = {}: must divide the gate's {} channels (model.d_ffn = {}, "
                     "model.gate = {}), each head takes an equal part",
                     m.spatial_heads, channels, m.d_ffn, m.gate)});
  }
  if (m.tiny_attention == 0 && !m.tiny_attention_qkv_bias) {
    faults.push_back({{"model.tiny_attention_qkv_bias", "model.tiny_attention", "model.kind"},
                      "model.tiny_attention_qkv_bias = false: model.tiny_attention = 0 has no queries, keys "
                      "and values"});
  }
  if (m.token_shift >= m.seq_len) {
    faults.push_back(
        {{"model.token_shift", "model.seq_len", "model.kind"},
         fmt::format("model.token_shift = {}: must be below model.seq_len = {}, else it moves in "
                     "zeros alone",
                     m.token_shift, m.seq_len)});
  } else if (const std::int64_t groups = m.causal ? m.token_shift + 1 : 2 * m.token_shift + 1;
             groups > m.d_model) {
    faults.push_back({{"model.token_shift", "model.d_model", "model.causal", "model.kind"},
                      fmt::format("model.token_shift = {}: makes {} groups of model.d_model = {} channels",
                                  m.token_shift, groups, m.d_model)});
  }
  if (m.positions != "none" && m.positions != "sinusoidal") {
    faults.push_back({{"model.positions", "model.kind"},
                      fmt::format("model.positions = {}: is of model.kind = transformer; a gmlp learns of "
                                  "positions by its spatial weights, or takes sinusoidal",
                                  m.positions)});
  }
}

void check_transformer(const train::RunOptions& o, Faults& faults) {
  const auto& m = o.model;
  if (m.d_model % m.heads != 0) {
    faults.push_back(
        {{"model.heads", "model.d_model", "model.kind"},
         fmt::format("model.heads = {}: must divide model.d_model = {}, each head takes an equal part",
                     m.heads, m.d_model)});
  } else if (m.positions == "rotary" && m.d_model / m.heads % 2 != 0) {
    faults.push_back(
        {{"model.positions", "model.heads", "model.d_model", "model.kind"},
         fmt::format("model.positions = rotary: turns pairs of channels, and a head has {} (model.d_model "
                     "= {} / model.heads = {})",
                     m.d_model / m.heads, m.d_model, m.heads)});
  }
  if (m.mlp == "swiglu" && m.gelu != model::ModelOptions{}.gelu) {
    faults.push_back({{"model.gelu", "model.mlp"},
                      fmt::format("model.gelu = {}: model.mlp = swiglu has no GELU", m.gelu)});
  }
  if (m.positions != "rotary" && m.rotary_base != model::ModelOptions{}.rotary_base) {
    faults.push_back({{"model.rotary_base", "model.positions"},
                      fmt::format("model.rotary_base = {}: model.positions = {} turns nothing", m.rotary_base,
                                  m.positions)});
  }
  if (m.attention == "positions_only" && !model::has_relative_positions(m)) {
    faults.push_back(
        {{"model.attention", "model.positions", "model.kind"},
         fmt::format("model.attention = positions_only: mixes by the relative positions' bias, and "
                     "model.positions = {} has none; set model.positions = relative or learned+relative",
                     m.positions)});
  }
  if (o.train.recompute == "gate") {
    faults.push_back({{"train.recompute", "model.kind"},
                      "train.recompute = gate: a transformer has no gate; allowed are none and block"});
  }
}

void check_mixer(const train::RunOptions& o, Faults& faults) {
  const auto& m = o.model;
  if (m.causal) {
    faults.push_back(
        {{"model.causal", "model.kind"},
         "model.causal = true: must be false for model.kind = mixer, whose MLP over positions lets each "
         "see every other"});
  }
  if (m.positions == "rotary" || model::has_relative_positions(m)) {
    faults.push_back(
        {{"model.positions", "model.kind"},
         fmt::format("model.positions = {}: is of attention, which a mixer does not have; allowed are none, "
                     "sinusoidal and learned",
                     m.positions)});
  }
  if (o.train.recompute == "gate") {
    faults.push_back({{"train.recompute", "model.kind"},
                      "train.recompute = gate: a mixer has no gate; allowed are none and block"});
  }
}

/// fp8 is of kernels/fused_block.h alone, and of whole multiples of what its products read at once.
void check_fp8(const train::RunOptions& o, Faults& faults) {
  constexpr std::int64_t kMultiple = 16, kMostWidth = 8192;
  const auto& m = o.model;
  const bool plain = m.kind == "gmlp" && m.gate == "split" && m.spatial == "free" && m.spatial_heads == 1 &&
                     m.gate_activation == "none" && m.gate_norm && m.gelu == "exact" && m.token_shift == 0 &&
                     m.tiny_attention == 0 && m.dropout == 0 && m.stochastic_depth == 0;
  if (!plain || o.parallel.sp > 1) {
    faults.push_back(
        {{"train.precision", "model.kind", "parallel.sp"},
         "train.precision = fp8: is of the paper's own gMLP block alone (model.kind = gmlp, no "
         "variant, no dropout), on ranks with whole sequences (parallel.sp = 1); bf16 is of all"});
  }
  if (m.d_model % kMultiple != 0 || m.d_ffn / 2 % kMultiple != 0 || m.d_model > kMostWidth ||
      m.d_ffn / 2 > kMostWidth) {
    faults.push_back(
        {{"train.precision", "model.d_model", "model.d_ffn"},
         fmt::format("train.precision = fp8: model.d_model = {} and model.d_ffn / 2 = {} must be "
                     "multiples of {}, at most {}",
                     m.d_model, m.d_ffn / 2, kMultiple, kMostWidth)});
  }
}

void check_types(const train::RunOptions& o, Faults& faults) {
  const std::string& precision = o.train.precision;
  if (o.train.residual_dtype == "bf16" && precision != "bf16" && precision != "fp8") {
    faults.push_back({{"train.residual_dtype", "train.precision"},
                      fmt::format("train.residual_dtype = bf16: must be fp32 under train.precision = {}, it "
                                  "follows bf16 and fp8 alone",
                                  precision)});
  }
  if (precision == "fp8") check_fp8(o, faults);
}

void check_family(const train::RunOptions& o, Faults& faults) {
  const auto& m = o.model;
  check_family_keys(o, faults);
  check_types(o, faults);
  switch (model::family_of(m)) {
    case model::Family::kGmlp:
      check_gmlp(m, faults);
      break;
    case model::Family::kTransformer:
      check_transformer(o, faults);
      break;
    case model::Family::kMixer:
      check_mixer(o, faults);
      break;
  }
  if (m.init == "fan_in" && m.init_std != model::ModelOptions{}.init_std) {
    faults.push_back({{"model.init_std", "model.init"},
                      fmt::format("model.init_std = {}: is of model.init = normal alone, fan_in draws from "
                                  "+-1/sqrt(inputs)",
                                  m.init_std)});
  }
  if (m.positions == "sinusoidal" && m.d_model % 2 != 0) {
    faults.push_back(
        {{"model.positions", "model.d_model"},
         fmt::format("model.positions = sinusoidal needs an even model.d_model, which is {}", m.d_model)});
  }
}

void check_objective(const train::RunOptions& o, Faults& faults) {
  const auto& t = o.train;
  if (t.objective == "causal" && !o.model.causal) {
    faults.push_back({{"model.causal", "train.objective"},
                      "model.causal = false: must be true under train.objective = causal, which predicts the "
                      "next token: a position would see its own target (train.objective = mlm takes it)"});
  }
  if (t.objective == "mlm" && o.model.causal) {
    faults.push_back(
        {{"model.causal", "train.objective"},
         "model.causal = true: must be false under train.objective = mlm, which predicts a masked "
         "token from both sides"});
  }
  const train::TrainOptions none;
  if (t.objective == "causal" &&
      (t.mask_rate != none.mask_rate || t.mask_token_share != none.mask_token_share ||
       t.mask_random_share != none.mask_random_share)) {
    faults.push_back(
        {{"train.mask_rate", "train.mask_token_share", "train.mask_random_share", "train.objective"},
         "train.mask_rate, train.mask_token_share, train.mask_random_share: are of train.objective = mlm "
         "alone, causal masks nothing"});
  }
  if (t.mask_token_share + t.mask_random_share > 1) {
    faults.push_back(
        {{"train.mask_token_share", "train.mask_random_share"},
         fmt::format("train.mask_token_share = {} and train.mask_random_share = {}: are shares of "
                     "the same tokens, at most 1 together",
                     t.mask_token_share, t.mask_random_share)});
  }
}

}  // namespace

std::vector<CombinationFault> check_model(const train::RunOptions& options) {
  Faults faults;
  check_family(options, faults);
  check_objective(options, faults);
  return faults;
}

}  // namespace sluice::cli
