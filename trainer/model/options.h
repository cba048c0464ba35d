#pragma once

#include <cstdint>
#include <string>

namespace sluice::model {

/// [model] of a run. Allowed values and ranges: the option table (trainer/cli/option_table.cpp) and
/// docs/reference.md.
struct ModelOptions {
  std::string kind = "gmlp";  ///< gmlp | transformer | mixer
  std::int64_t layers = 6;
  std::int64_t d_model = 256;
  /// gMLP: channels after expansion, of which a split gate takes one half (paper: 6 d_model). Others:
  /// channels that the MLP's second product reads.
  std::int64_t d_ffn = 1536;
  std::int64_t seq_len = 256;      ///< n: positions of W and b; shorter sequences use W[:m, :m]
  bool tied = true;                ///< output projection shares the embedding's weights
  std::string positions = "none";  ///< none | sinusoidal (paper: none); Mixer: learned too; Transformer:
                                   ///< rotary | relative | learned+relative, too
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

  std::string gelu = "exact";  ///< exact | tanh
  /// In training: of the embeddings and of every branch; of a Transformer's softmax, too.
  double dropout = 0.0;

  // Of a gMLP alone.
  std::string gate = "split";            ///< split | multiplicative | additive | linear (paper, table 3)
  std::string spatial = "free";          ///< free | toeplitz: W of n^2 weights, or of 2 n - 1
  std::int64_t spatial_heads = 1;        ///< groups of the gate's channels, each with its own W and b
  std::string gate_activation = "none";  ///< none | tanh | sigmoid | gelu | relu
  bool gate_norm = true;                 ///< the gate is normalised before W
  std::int64_t tiny_attention = 0;       ///< channels of aMLP's single head; 0: none
  bool tiny_attention_qkv_bias = true;
  std::int64_t token_shift = 0;  ///< channel groups take their input from up to so many positions away
  /// Share of samples that skip the last block in training; block l of L skips l / L times it (Huang et al.
  /// 2016, section 3).
  double stochastic_depth = 0.0;

  // Of a Transformer alone.
  std::int64_t heads = 8;          ///< divides d_model
  std::string attention = "full";  ///< full | positions_only: softmax of the relative positions' bias alone
  std::string norm = "layer";      ///< layer | rms
  std::string mlp = "gelu";        ///< gelu | swiglu
  bool bias = true;                ///< of products and layer norms
  double rotary_base = 10000.0;    ///< angles of rotary positions: t base^(-2c / channels of a head)

  // Of an MLP-Mixer alone.
  std::int64_t d_spatial = 384;  ///< width of the MLP over positions
};

enum class Family { kGmlp, kTransformer, kMixer };
/// Of options.kind; throws c10::Error for another one.
[[nodiscard]] Family family_of(const ModelOptions& options);

/// Channels that a gMLP's gate works on: half of d_ffn if it is split, else all.
[[nodiscard]] std::int64_t gate_channels(const ModelOptions& options);

[[nodiscard]] inline bool has_learned_positions(const ModelOptions& options) {
  return options.positions == "learned" || options.positions == "learned+relative";
}
[[nodiscard]] inline bool has_relative_positions(const ModelOptions& options) {
  return options.positions == "relative" || options.positions == "learned+relative";
}

/// Whether a gMLP's blocks are the paper's own when they train, W free or Toeplitz: what the fused block
/// computes.
[[nodiscard]] bool has_plain_blocks(const ModelOptions& options);

/// Whether training draws anything, so that it has to know its samples' indices.
[[nodiscard]] inline bool draws_in_training(const ModelOptions& options) {
  return options.dropout > 0 || options.stochastic_depth > 0;
}

}  // namespace sluice::model
