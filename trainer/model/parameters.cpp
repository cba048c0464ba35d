#include "trainer/model/parameters.h"

#include <c10/util/Exception.h>

#include <algorithm>
#include <cmath>
#include <initializer_list>
#include <utility>

#include "trainer/kernels/relative_bias.h"

namespace sluice::model {
namespace {

using Kind = Initialiser::Kind;

/// Appends specs and knows the conventions of names, draws and initial values.
class SpecList {
 public:
  explicit SpecList(const ModelOptions& options) : options_(options) {
    TORCH_CHECK(options.init == "normal" || options.init == "fan_in", "model.init is ", options.init,
                ", allowed are normal and fan_in");
  }

  void enter_layer(std::int64_t layer) {
    late_ = layer < late_blocks(options_);
    prefix_ = "blocks." + std::to_string(layer) + ".";
    draw_prefix_ = options_.identical_layers ? "blocks.0." : prefix_;
  }
  void leave_layers() {
    late_ = false;
    prefix_ = draw_prefix_ = "";
  }

  void add(const std::string& name, std::vector<std::int64_t> shape, WeightDecay decay, Kind kind,
           double scale = 0.0) {
    specs_.push_back({prefix_ + name,
                      std::move(shape),
                      decay,
                      {kind, scale, draw_prefix_ + name},
                      Reads::kAll,
                      Deal::kWhole,
                      late_});
  }
  [[nodiscard]] ParameterSpec& last() { return specs_.back(); }
  void add_norm(const std::string& name, std::int64_t width) {
    add(name + ".weight", {width}, WeightDecay::kNone, Kind::kOnes);
    if (options_.norm == "layer" && options_.bias)
      add(name + ".bias", {width}, WeightDecay::kNone, Kind::kZeros);
  }
  /// `scale`: of the standard deviation under init = normal.
  void add_linear_weight(const std::string& name, std::int64_t out, std::int64_t in, double scale = 1.0) {
    if (options_.init == "fan_in") {
      add(name, {out, in}, WeightDecay::kApply, Kind::kUniform, fan_in_bound(in));
    } else {
      add(name, {out, in}, WeightDecay::kApply, Kind::kNormal, scale * options_.init_std);
    }
  }
  void add_linear_bias(const std::string& name, std::int64_t out, std::int64_t in) {
    if (options_.init == "fan_in") {
      add(name, {out}, WeightDecay::kNone, Kind::kUniform, fan_in_bound(in));
    } else {
      add(name, {out}, WeightDecay::kNone, Kind::kZeros);
    }
  }
  void add_linear(const std::string& name, std::int64_t out, std::int64_t in, double scale = 1.0) {
    add_linear_weight(name + ".weight", out, in, scale);
    if (options_.bias) add_linear_bias(name + ".bias", out, in);
  }

  [[nodiscard]] std::vector<ParameterSpec> take() { return std::move(specs_); }

 private:
  static double fan_in_bound(std::int64_t in) { return 1.0 / std::sqrt(static_cast<double>(in)); }

  const ModelOptions& options_;
  std::string prefix_;
  std::string draw_prefix_;
  bool late_ = false;
  std::vector<ParameterSpec> specs_;
};

/// W and b of all heads.
void add_spatial(SpecList& list, const ModelOptions& options) {
  const std::int64_t positions = options.seq_len;
  const double bound = options.spatial_init_per_position
                           ? options.spatial_init / static_cast<double>(positions)
                           : options.spatial_init;
  const auto of_heads = [&](std::vector<std::int64_t> shape) {
    if (options.spatial_heads > 1) shape.insert(shape.begin(), options.spatial_heads);
    return shape;
  };
  if (options.spatial == "toeplitz") {
    list.add("sgu.weight", of_heads({2 * positions - 1}), WeightDecay::kApply, Kind::kUniform, bound);
  } else {
    list.add("sgu.weight", of_heads({positions, positions}), WeightDecay::kApply, Kind::kUniform, bound);
    if (options.causal) list.last().reads = Reads::kLowerTriangle;
    list.last().deal = Deal::kRows;
  }
  list.add("sgu.bias", of_heads({positions}), WeightDecay::kNone, Kind::kOnes);
}

void add_gmlp_block(SpecList& list, const ModelOptions& options) {
  const std::int64_t channels = gate_channels(options);
  const std::int64_t head = options.tiny_attention;
  list.add_norm("norm", options.d_model);
  list.add_linear("expand", options.d_ffn, options.d_model);
  if (head > 0) {
    list.add_linear_weight("attention.qkv.weight", 3 * head, options.d_model);
    if (options.tiny_attention_qkv_bias)
      list.add_linear_bias("attention.qkv.bias", 3 * head, options.d_model);
  }
  if (options.gate_norm) list.add_norm("sgu.norm", channels);
  add_spatial(list, options);
  if (head > 0) list.add_linear("attention.out", channels, head);
  list.add_linear("contract", options.d_model, channels);
}

/// Projections onto the residual stream start smaller, as their sum over 2 layers' worth of branches is what
/// the stream holds (Radford et al. 2019, 2.3).
void add_transformer_block(SpecList& list, const ModelOptions& options) {
  const std::int64_t width = options.d_model;
  const std::int64_t expanded = options.mlp == "swiglu" ? 2 * options.d_ffn : options.d_ffn;
  const double residual_scale = 1.0 / std::sqrt(2.0 * static_cast<double>(options.layers));
  list.add_norm("attention.norm", width);
  if (options.attention == "positions_only") {
    list.add_linear("attention.value", width, width);
  } else {
    list.add_linear("attention.qkv", 3 * width, width);
  }
  if (has_relative_positions(options)) {
    list.add("attention.relative.weight", {options.heads, kernels::kRelativeBuckets}, WeightDecay::kNone,
             Kind::kNormal, options.embedding_std);
  }
  list.add_linear("attention.out", width, width, residual_scale);
  list.add_norm("mlp.norm", width);
  list.add_linear("mlp.expand", expanded, width);
  list.add_linear("mlp.contract", width, options.d_ffn, residual_scale);
}

/// MLPs over positions and over channels.
void add_mixer_block(SpecList& list, const ModelOptions& options) {
  list.add_norm("token.norm", options.d_model);
  list.add_linear("token.expand", options.d_spatial, options.seq_len);
  list.add_linear("token.contract", options.seq_len, options.d_spatial);
  list.add_norm("mlp.norm", options.d_model);
  list.add_linear("mlp.expand", options.d_ffn, options.d_model);
  list.add_linear("mlp.contract", options.d_model, options.d_ffn);
}

void add_block(SpecList& list, const ModelOptions& options) {
  switch (family_of(options)) {
    case Family::kGmlp:
      return add_gmlp_block(list, options);
    case Family::kTransformer:
      return add_transformer_block(list, options);
    case Family::kMixer:
      return add_mixer_block(list, options);
  }
}

void check_gmlp_shape(const ModelOptions& options) {
  const auto one_of = [](const char* key, const std::string& value,
                         std::initializer_list<const char*> allowed) {
    TORCH_CHECK(std::find(allowed.begin(), allowed.end(), value) != allowed.end(), "model.", key, " is ",
                value, ", which a gMLP does not have");
  };
  one_of("gate", options.gate, {"split", "multiplicative", "additive", "linear"});
  one_of("spatial", options.spatial, {"free", "toeplitz"});
  TORCH_CHECK(options.gate != "split" || options.d_ffn % 2 == 0, "model.d_ffn is ", options.d_ffn,
              ", but the gating unit splits it in two");
  TORCH_CHECK(options.spatial_heads > 0 && gate_channels(options) % options.spatial_heads == 0,
              "model.spatial_heads is ", options.spatial_heads, ", but divides the gate's ",
              gate_channels(options), " channels");
  TORCH_CHECK(options.tiny_attention >= 0, "model.tiny_attention is ", options.tiny_attention);
  TORCH_CHECK(options.bias && options.norm == "layer", "a gMLP has layer norms and biases");
}

void check_transformer_shape(const ModelOptions& options) {
  TORCH_CHECK(options.attention == "full" ||
                  (options.attention == "positions_only" && has_relative_positions(options)),
              "model.attention is ", options.attention, " with model.positions = ", options.positions);
  TORCH_CHECK(options.heads > 0 && options.d_model % options.heads == 0, "model.heads is ", options.heads,
              ", but divides model.d_model, ", options.d_model);
}

void check_mixer_shape(const ModelOptions& options) {
  TORCH_CHECK(!options.causal, "an MLP-Mixer mixes all positions, and is not causal");
  TORCH_CHECK(options.d_spatial > 0, "model.d_spatial is ", options.d_spatial);
  TORCH_CHECK(options.bias && options.norm == "layer", "an MLP-Mixer has layer norms and biases");
  TORCH_CHECK(options.positions != "rotary" && !has_relative_positions(options), "model.positions is ",
              options.positions, ", but an MLP-Mixer has no attention");
}

void check_shape(const ModelOptions& options) {
  switch (family_of(options)) {
    case Family::kGmlp:
      check_gmlp_shape(options);
      break;
    case Family::kTransformer:
      check_transformer_shape(options);
      break;
    case Family::kMixer:
      check_mixer_shape(options);
      break;
  }
}

}  // namespace

std::int64_t late_blocks(const ModelOptions& options) {
  constexpr std::int64_t kMost = 6;
  constexpr std::int64_t kOneOf = 8;
  const bool large_spatial =
      options.spatial == "free" && options.seq_len * options.seq_len > options.d_ffn * options.d_model;
  if (!has_plain_blocks(options) || large_spatial) return 0;
  return std::clamp<std::int64_t>(options.layers / kOneOf, 1, kMost);
}

std::vector<ParameterSpec> parameter_specs(const ModelOptions& options, std::int64_t vocabulary_size) {
  check_shape(options);
  SpecList list(options);
  list.add("embed.weight", {vocabulary_size, options.d_model}, WeightDecay::kApply, Kind::kNormal,
           options.embedding_std);
  if (has_learned_positions(options)) {
    list.add("positions.weight", {options.seq_len, options.d_model}, WeightDecay::kApply, Kind::kNormal,
             options.embedding_std);
  }
  for (std::int64_t layer = 0; layer < options.layers; ++layer) {
    list.enter_layer(layer);
    add_block(list, options);
  }
  list.leave_layers();
  list.add_norm("norm", options.d_model);
  if (!options.tied) list.add_linear_weight("head.weight", vocabulary_size, options.d_model);
  if (options.head_bias) list.add_linear_bias("head.bias", vocabulary_size, options.d_model);
  return list.take();
}

void check_parameters(const std::vector<ParameterSpec>& specs, const std::vector<at::Tensor>& parameters) {
  TORCH_CHECK(parameters.size() == specs.size(), "the model has ", specs.size(), " parameters, given are ",
              parameters.size());
  for (std::size_t i = 0; i < specs.size(); ++i) {
    TORCH_CHECK(parameters[i].sizes() == at::IntArrayRef(specs[i].shape), specs[i].name, " has shape ",
                at::IntArrayRef(specs[i].shape), ", given is ", parameters[i].sizes());
  }
}

std::int64_t parameter_count(const std::vector<ParameterSpec>& specs) {
  std::int64_t count = 0;
  for (const ParameterSpec& spec : specs) {
    std::int64_t numel = 1;
    for (const std::int64_t extent : spec.shape) numel *= extent;
    count += numel;
  }
  return count;
}

}  // namespace sluice::model
