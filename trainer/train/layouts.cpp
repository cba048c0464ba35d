#include "trainer/train/layouts.h"

#include <c10/util/Exception.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <span>

namespace sluice::train {
namespace {

/// labml_nn/transformers/gmlp and the autoregressive model around it.
Layout labml() {
  const std::string block = "encoder.layers.*.";
  return {.name = "labml",
          .rows = {{"embed", "src_embed.linear"},
                   {"blocks.*.norm", block + "norm"},
                   {"blocks.*.expand", block + "proj1"},
                   {"blocks.*.sgu.norm", block + "sgu.norm"},
                   {"blocks.*.sgu", block + "sgu"},
                   {"blocks.*.contract", block + "proj2"},
                   {"norm", "encoder.norm"},
                   {"head", "generator.projection"}},
          .sinusoids = "src_embed.positional_encodings"};
}

/// `block`: how deep a block lies in its wrappers. The prefix is that of its class for autoregressive
/// training.
Layout gmlp_pytorch(std::string name, const std::string& block, const std::string& spatial, Form form) {
  return {.name = std::move(name),
          .rows = {{"embed", "to_embed"},
                   {"blocks.*.norm", "layers.*.fn.norm"},
                   {"blocks.*.expand", block + "proj_in.0"},
                   {"blocks.*.attention.qkv", block + "attn.to_qkv"},
                   {"blocks.*.attention.out", block + "attn.to_out"},
                   {"blocks.*.sgu.norm", block + "sgu.norm"},
                   {"blocks.*.sgu", block + spatial, form},
                   {"blocks.*.contract", block + "proj_out"},
                   {"norm", "to_logits.0"},
                   {"head", "to_logits.1"}},
          .prefix = "net."};
}

/// OpenAI's and Hugging Face's.
Layout gpt2() {
  const std::string block = "h.*.";
  return {.name = "gpt2",
          .rows = {{"embed", "wte"},
                   {"positions", "wpe"},
                   {"blocks.*.attention.norm", block + "ln_1"},
                   {"blocks.*.attention.qkv", block + "attn.c_attn", Form::kTransposed},
                   {"blocks.*.attention.out", block + "attn.c_proj", Form::kTransposed},
                   {"blocks.*.mlp.norm", block + "ln_2"},
                   {"blocks.*.mlp.expand", block + "mlp.c_fc", Form::kTransposed},
                   {"blocks.*.mlp.contract", block + "mlp.c_proj", Form::kTransposed},
                   {"norm", "ln_f"},
                   {"head", "lm_head"}},
          .prefix = "transformer.",
          .written_prefix = "transformer.",
          .bare = "lm_head",
          .ignored = {"h.*.attn.bias", "h.*.attn.masked_bias"}};
}

/// The last one is read, and not written: versions 0.1.0 to 0.1.4 lived for a day.
const std::vector<Layout>& all_layouts() {
  static const std::vector<Layout> kAll = {
      {.name = "sluice", .rows = {}},
      labml(),
      gmlp_pytorch("g-mlp-pytorch", "layers.*.fn.fn.fn.", "sgu", Form::kHeads),
      gmlp_pytorch("g-mlp-pytorch-0.0", "layers.*.fn.fn.", "sgu.proj", Form::kConv1d),
      gpt2(),
      gmlp_pytorch("g-mlp-pytorch-0.1", "layers.*.fn.fn.", "sgu", Form::kHeads)};
  return kAll;
}

/// Collects what the layout's program does not have.
class Faults {
 public:
  explicit Faults(const Layout& layout) : layout_(layout) {}

  template <typename Value>
  void must_be(const char* key, const Value& value, const Value& needed) {
    if (value == needed) return;
    faults_.push_back(fmt::format("{} = {}: must be {} in the layout {}", key, value, needed, layout_.name));
  }
  void must_be(const char* key, const std::string& value, const char* needed) {
    must_be(key, value, std::string(needed));
  }
  [[nodiscard]] std::vector<std::string> take() { return std::move(faults_); }

 private:
  const Layout& layout_;
  std::vector<std::string> faults_;
};

void check_gmlp(const model::ModelOptions& o, Faults& faults) {
  faults.must_be("model.gate", o.gate, "split");
  faults.must_be("model.spatial", o.spatial, "free");
  faults.must_be("model.gate_norm", o.gate_norm, true);
  faults.must_be("model.gelu", o.gelu, "exact");
  faults.must_be("model.norm_eps", o.norm_eps, 1e-5);
  faults.must_be("model.tied", o.tied, false);
  faults.must_be("model.head_bias", o.head_bias, true);
}

void check_labml(const model::ModelOptions& o, Faults& faults) {
  check_gmlp(o, faults);
  faults.must_be("model.positions", o.positions, "sinusoidal");
  faults.must_be("model.scale_embedding", o.scale_embedding, true);
  faults.must_be("model.spatial_heads", o.spatial_heads, std::int64_t{1});
  faults.must_be("model.gate_activation", o.gate_activation, "none");
  faults.must_be("model.tiny_attention", o.tiny_attention, std::int64_t{0});
  faults.must_be("model.token_shift", o.token_shift, std::int64_t{0});
}

void check_gmlp_pytorch(const Layout& layout, const model::ModelOptions& o, Faults& faults) {
  check_gmlp(o, faults);
  faults.must_be("model.positions", o.positions, "none");
  faults.must_be("model.scale_embedding", o.scale_embedding, false);
  if (o.tiny_attention > 0) faults.must_be("model.tiny_attention_qkv_bias", o.tiny_attention_qkv_bias, false);
  const bool shifts = layout.name == "g-mlp-pytorch";
  if (!shifts) faults.must_be("model.token_shift", o.token_shift, std::int64_t{0});
  if (layout.name == "g-mlp-pytorch-0.0")
    faults.must_be("model.spatial_heads", o.spatial_heads, std::int64_t{1});
}

void check_gpt2(const model::ModelOptions& o, Faults& faults) {
  faults.must_be("model.causal", o.causal, true);
  faults.must_be("model.attention", o.attention, "full");
  faults.must_be("model.positions", o.positions, "learned");
  faults.must_be("model.norm", o.norm, "layer");
  faults.must_be("model.mlp", o.mlp, "gelu");
  faults.must_be("model.bias", o.bias, true);
  faults.must_be("model.head_bias", o.head_bias, false);
  faults.must_be("model.scale_embedding", o.scale_embedding, false);
}

/// `number` at the `*` of a row's stem.
std::string fill(const std::string& stem, const std::string& number) {
  const auto star = stem.find('*');
  return star == std::string::npos ? stem : stem.substr(0, star) + number + stem.substr(star + 1);
}

std::vector<std::int64_t> shape_in(Form form, std::vector<std::int64_t> shape, const std::string& leaf,
                                   const model::ModelOptions& options) {
  switch (form) {
    case Form::kSame:
      break;
    case Form::kTransposed:
      std::ranges::reverse(shape);
      break;
    case Form::kHeads:
      if (options.spatial_heads == 1) shape.insert(shape.begin(), 1);
      break;
    case Form::kConv1d:
      if (leaf == "weight") shape.push_back(1);
      break;
  }
  return shape;
}

MappedTensor map_tensor(const Layout& layout, const model::ModelOptions& options,
                        const model::ParameterSpec& spec) {
  if (layout.rows.empty()) return {spec.name, spec.shape, spec.name, spec.shape, Form::kSame};
  const auto dot = spec.name.rfind('.');
  const std::string stem = spec.name.substr(0, dot);
  const std::string leaf = spec.name.substr(dot + 1);
  const auto row =
      std::ranges::find_if(layout.rows, [&](const LayoutRow& one) { return matches(stem, one.ours); });
  TORCH_CHECK(row != layout.rows.end(), spec.name, " has no name in the layout ", layout.name);
  const auto number_at = row->ours.find('*');
  const std::string number =
      number_at == std::string::npos ? "" : stem.substr(number_at, stem.find('.', number_at) - number_at);
  const std::string prefix = layout.bare == row->theirs ? "" : layout.written_prefix;
  return {spec.name, spec.shape, prefix + fill(row->theirs, number) + "." + leaf,
          shape_in(row->form, spec.shape, leaf, options), row->form};
}

}  // namespace

bool matches(std::string_view name, std::string_view pattern) {
  const auto star = pattern.find('*');
  if (star == std::string_view::npos) return name == pattern;
  if (!name.starts_with(pattern.substr(0, star))) return false;
  std::string_view rest = name.substr(star);
  const auto digits = std::min(rest.find_first_not_of("0123456789"), rest.size());
  return digits > 0 && rest.substr(digits) == pattern.substr(star + 1);
}

std::vector<std::string> layout_names() {
  std::vector<std::string> names;
  for (const Layout& layout : std::span(all_layouts()).first(5)) names.push_back(layout.name);
  return names;
}

const Layout& find_layout(std::string_view name) {
  const auto found = std::ranges::find(all_layouts(), name, &Layout::name);
  TORCH_CHECK(found != all_layouts().end(), "no layout has the name ", std::string(name));
  return *found;
}

const Layout& guess_layout(std::string_view name, const std::vector<std::string>& names) {
  if (name != "g-mlp-pytorch") return find_layout(name);
  const Layout* best = nullptr;
  std::ptrdiff_t most = -1;
  for (const char* candidate : {"g-mlp-pytorch", "g-mlp-pytorch-0.1", "g-mlp-pytorch-0.0"}) {
    const Layout& layout = find_layout(candidate);
    const auto fits = std::ranges::count_if(names, [&](const std::string& one) {
      const std::string_view bare =
          std::string_view(one).substr(one.starts_with(layout.prefix) ? layout.prefix.size() : 0);
      const std::string_view stem = bare.substr(0, bare.rfind('.'));
      return std::ranges::any_of(layout.rows,
                                 [&](const LayoutRow& row) { return matches(stem, row.theirs); });
    });
    if (fits > most) {
      most = fits;
      best = &layout;
    }
  }
  return *best;
}

std::vector<std::string> layout_faults(const Layout& layout, const model::ModelOptions& options) {
  if (layout.rows.empty()) return {};
  Faults faults(layout);
  const std::string kind = layout.name == "gpt2" ? "transformer" : "gmlp";
  faults.must_be("model.kind", options.kind, kind);
  if (options.kind != kind) return faults.take();  // its other settings mean nothing here
  if (layout.name == "labml") {
    check_labml(options, faults);
  } else if (layout.name == "gpt2") {
    check_gpt2(options, faults);
  } else {
    check_gmlp_pytorch(layout, options, faults);
  }
  return faults.take();
}

std::vector<MappedTensor> map_tensors(const Layout& layout, const model::ModelOptions& options,
                                      const std::vector<model::ParameterSpec>& specs) {
  std::vector<MappedTensor> mapped;
  mapped.reserve(specs.size());
  for (const model::ParameterSpec& spec : specs) mapped.push_back(map_tensor(layout, options, spec));
  return mapped;
}

}  // namespace sluice::train
