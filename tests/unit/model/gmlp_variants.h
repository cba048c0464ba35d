#pragma once

#include <ostream>
#include <string>
#include <vector>

#include "trainer/model/options.h"

namespace sluice::testing {

struct NamedOptions {
  std::string name;
  model::ModelOptions options;
  friend void PrintTo(const NamedOptions& one, std::ostream* out) { *out << one.name; }
};

/// Small gMLPs, each with one of the variants or several at once: 2 layers, 9 positions.
inline std::vector<NamedOptions> gmlp_variants() {
  std::vector<NamedOptions> all;
  const auto add = [&](const std::string& name, auto change) {
    model::ModelOptions options;
    options.layers = 2, options.d_model = 8, options.d_ffn = 20, options.seq_len = 9;
    change(options);
    all.push_back({name, options});
  };
  add("multiplicative", [](auto& o) { o.gate = "multiplicative"; });
  add("additive", [](auto& o) { o.gate = "additive", o.d_ffn = 13; });
  add("linear", [](auto& o) { o.gate = "linear"; });
  add("toeplitz", [](auto& o) { o.spatial = "toeplitz"; });
  add("heads", [](auto& o) { o.spatial_heads = 5; });
  add("toeplitz_heads", [](auto& o) { o.spatial = "toeplitz", o.spatial_heads = 2; });
  add("amlp", [](auto& o) { o.tiny_attention = 3; });
  add("amlp_without_bias", [](auto& o) { o.tiny_attention = 3, o.tiny_attention_qkv_bias = false; });
  add("tanh", [](auto& o) { o.gate_activation = "tanh"; });
  add("sigmoid", [](auto& o) { o.gate_activation = "sigmoid"; });
  add("gelu", [](auto& o) { o.gate_activation = "gelu", o.gelu = "tanh"; });
  add("no_gate_norm", [](auto& o) { o.gate_norm = false; });
  add("gelu_tanh", [](auto& o) { o.gelu = "tanh"; });
  add("shift", [](auto& o) { o.token_shift = 1; });
  add("shift_far", [](auto& o) { o.token_shift = 3; });
  add("all", [](auto& o) {
    o.gate = "multiplicative", o.spatial = "toeplitz", o.spatial_heads = 2, o.gate_activation = "sigmoid";
    o.gate_norm = false, o.gelu = "tanh", o.token_shift = 2, o.tiny_attention = 4, o.tied = false;
  });
  return all;
}

}  // namespace sluice::testing
