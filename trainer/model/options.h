#pragma once

#include <cstdint>
#include <string>

namespace sluice::model {

/// [model] of a run. Allowed values and ranges: the option table (trainer/cli/option_table.cpp) and
/// docs/reference.md.
struct ModelOptions {
  std::string kind = "gmlp";  ///< gmlp | transformer
  std::int64_t layers = 6;
  std::int64_t d_model = 256;
  /// gMLP: even, the spatial gating unit splits it (paper: 6 d_model). Transformer: channels that the MLP's
  /// second product reads.
  std::int64_t d_ffn = 1536;
  std::int64_t seq_len = 256;      ///< n: positions of W and b; shorter sequences use W[:m, :m]
  bool tied = true;                ///< output projection shares the embedding's weights
  std::string positions = "none";  ///< none | sinusoidal (paper: none); Transformer: learned | rotary too
  bool causal = true;
  bool scale_embedding = false;  ///< embeddings times sqrt(d_model), as labml does
  bool head_bias = false;
  bool identical_layers =
      false;  ///< every layer starts with layer 0's weights, as labml's clone_module_list does
  std::string init =
      "normal";  ///< normal: weights N(0, init_std), biases 0 | fan_in: PyTorch's Linear, U(+-1/sqrt(in))
  double init_std = 0.02;
  double embedding_std = 0.02;
  double spatial_init = 1e-3;  ///< W ~ U(-r, r), r = spatial_init (/ seq_len if spatial_init_per_position)
  bool spatial_init_per_position = true;
  double norm_eps = 1e-5;
  std::uint64_t seed = 0;

  // Of a Transformer alone.
  std::int64_t heads = 8;        ///< divides d_model
  std::string norm = "layer";    ///< layer | rms
  std::string mlp = "gelu";      ///< gelu | swiglu
  std::string gelu = "exact";    ///< exact | tanh
  bool bias = true;              ///< of products and layer norms
  double dropout = 0.0;          ///< in training: of the embeddings, of attention's softmax, of both branches
  double rotary_base = 10000.0;  ///< angles of rotary positions: t base^(-2c / channels of a head)
};

enum class Family { kGmlp, kTransformer };
/// Of options.kind; throws c10::Error for another one.
[[nodiscard]] Family family_of(const ModelOptions& options);

}  // namespace sluice::model
