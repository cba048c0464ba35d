#include "trainer/cli/option_rows.h"

// The rows of [model].

namespace sluice::cli {
namespace {

using namespace rows;
using R = train::RunOptions;
using enum OnResume;

std::vector<OptionRow> model_shape_rows() {
  using S = model::ModelOptions;
  return {
      choice("model.kind", &R::model, &S::kind, {"gmlp", "transformer", "mixer"},
             {"",
              "the family of the model: a gMLP, a pre-norm Transformer (not causal: an encoder), or an "
              "MLP-Mixer",
              kRefuse, ""}),
      integer("model.layers", &R::model, &S::layers, {1, 1e4}, {"blocks", "number of blocks", kRefuse, ""}),
      integer("model.d_model", &R::model, &S::d_model, {1, 1e6},
              {"channels", "width of the residual stream", kRefuse, ""}),
      integer("model.d_ffn", &R::model, &S::d_ffn, {2, 1e7},
              {"channels",
               "width inside a block; gmlp: a split gate takes one half (paper: 6 d_model); others: what the "
               "MLP's "
               "second product reads, swiglu's first computes twice as many",
               kRefuse, ""}),
      integer("model.seq_len", &R::model, &S::seq_len, {1, 1e6},
              {"tokens", "positions of a window, n", kRefuse, ""}),
      flag("model.tied", &R::model, &S::tied,
           {"", "the output projection shares the embedding's weights", kRefuse, ""}),
      choice("model.positions", &R::model, &S::positions,
             {"none", "sinusoidal", "learned", "rotary", "relative", "learned+relative"},
             {"",
              "position encoding (gMLP paper: none): sinusoidal or learned (transformer, mixer) are added to "
              "the embeddings; "
              "transformer: rotary turns queries and keys, relative adds a learned bias for each head and "
              "bucket of distances (T5's 32 up to 128) to each layer's scores, learned+relative does both",
              kRefuse, ""}),
      flag("model.causal", &R::model, &S::causal,
           {"", "a position sees itself and earlier ones only", kRefuse, ""}),
      flag("model.scale_embedding", &R::model, &S::scale_embedding,
           {"", "multiply embeddings by sqrt(d_model)", kRefuse, ""}),
      flag("model.head_bias", &R::model, &S::head_bias,
           {"", "the output projection has a bias", kRefuse, ""}),
      number("model.norm_eps", &R::model, &S::norm_eps, kPositive,
             {"", "epsilon of every norm", kRefuse, ""}),
      choice("model.gelu", &R::model, &S::gelu, {"exact", "tanh"},
             {"", "GELU by the error function, or its approximation by tanh", kRefuse, ""}),
      number("model.dropout", &R::model, &S::dropout, kBelowOne,
             {"",
              "share dropped in training of the embeddings and of every branch, of a transformer also of "
              "attention's softmax (which then takes no flash kernel); any division of the samples drops the "
              "same",
              kWarn, ""}),
  };
}

std::vector<OptionRow> gmlp_rows() {
  using S = model::ModelOptions;
  return {
      choice("model.gate", &R::model, &S::gate, {"split", "multiplicative", "additive", "linear"},
             {"",
              "gmlp: split: one half of z times f of the other; else z f(z), z + f(z) or f(z) of all d_ffn "
              "channels (paper, table 3)",
              kRefuse, ""}),
      choice("model.spatial", &R::model, &S::spatial, {"free", "toeplitz"},
             {"",
              "gmlp: spatial weights of each pair of positions (seq_len^2), or of each distance (2 seq_len - "
              "1; the paper's MLM)",
              kRefuse, ""}),
      integer(
          "model.spatial_heads", &R::model, &S::spatial_heads, {1, 1e6},
          {"", "gmlp: equal groups of the gate's channels, each with spatial weights and biases of its own",
           kRefuse, ""}),
      choice("model.gate_activation", &R::model, &S::gate_activation,
             {"none", "tanh", "sigmoid", "gelu", "relu"},
             {"", "gmlp: of the gate, after bias and attention were added (paper: none)", kRefuse, ""}),
      flag("model.gate_norm", &R::model, &S::gate_norm,
           {"", "gmlp: the gate is normalised before its spatial product", kRefuse, ""}),
      integer("model.tiny_attention", &R::model, &S::tiny_attention, {0, 1e6},
              {"channels", "gmlp: width of the one head that makes it an aMLP (paper: 64 or 128); 0: none",
               kRefuse, ""}),
      flag("model.tiny_attention_qkv_bias", &R::model, &S::tiny_attention_qkv_bias,
           {"", "gmlp: queries, keys and values of tiny_attention have biases", kRefuse, ""}),
      integer("model.token_shift", &R::model, &S::token_shift, {0, 1e6},
              {"positions",
               "gmlp: equal groups of a block's normalised channels come from 0, 1, ... so many positions "
               "before; not causal: behind, too",
               kRefuse, ""}),
      number("model.stochastic_depth", &R::model, &S::stochastic_depth, kBelowOne,
             {"",
              "gmlp: share of samples that skip the last block in training; block l of L skips l / L of it, "
              "what is kept is divided by the share that is kept",
              kWarn, ""}),
  };
}

std::vector<OptionRow> transformer_rows() {
  using S = model::ModelOptions;
  return {
      integer("model.heads", &R::model, &S::heads, {1, 1e6},
              {"", "transformer: attention heads, a divisor of d_model", kRefuse, ""}),
      choice(
          "model.attention", &R::model, &S::attention, {"full", "positions_only"},
          {"",
           "transformer: positions_only mixes values by the softmax of the relative positions' bias alone, "
           "without queries and keys (the paper's \"- attn\")",
           kRefuse, ""}),
      choice("model.norm", &R::model, &S::norm, {"layer", "rms"},
             {"", "transformer: every norm; rms has no mean and no bias", kRefuse, ""}),
      choice("model.mlp", &R::model, &S::mlp, {"gelu", "swiglu"},
             {"", "transformer: what the MLP does between its products", kRefuse, ""}),
      flag("model.bias", &R::model, &S::bias,
           {"", "transformer: products of blocks and layer norms have biases", kRefuse, ""}),
      number(
          "model.rotary_base", &R::model, &S::rotary_base, kPositive,
          {"",
           "transformer: rotary positions turn channel pair c at position t by t base^(-c / pairs of a head)",
           kRefuse, ""}),
  };
}

std::vector<OptionRow> mixer_rows() {
  using S = model::ModelOptions;
  return {
      integer("model.d_spatial", &R::model, &S::d_spatial, {1, 1e6},
              {"channels", "mixer: width of the MLP over positions", kRefuse, ""}),
  };
}

std::vector<OptionRow> model_start_rows() {
  using S = model::ModelOptions;
  return {
      seed("model.seed", &R::model, &S::seed, {"", "seed of the initial values", kRefuse, "run.seed"}),
      choice("model.init", &R::model, &S::init, {"normal", "fan_in"},
             {"",
              "normal: weights N(0, init_std), biases 0; fan_in: U(-1/sqrt(inputs), 1/sqrt(inputs)) for both",
              kRefuse, ""}),
      number("model.init_std", &R::model, &S::init_std, kNotNegative,
             {"",
              "standard deviation of weights under init = normal; transformer: projections onto the residual "
              "stream "
              "start with 1/sqrt(2 layers) of it",
              kRefuse, ""}),
      number("model.embedding_std", &R::model, &S::embedding_std, kNotNegative,
             {"", "standard deviation of the embedding, and of learned and relative positions", kRefuse, ""}),
      number("model.spatial_init", &R::model, &S::spatial_init, kNotNegative,
             {"", "gmlp: half width r of the spatial weights' uniform start, U(-r, r)", kRefuse, ""}),
      flag("model.spatial_init_per_position", &R::model, &S::spatial_init_per_position,
           {"", "gmlp: divide spatial_init by seq_len", kRefuse, ""}),
      flag("model.identical_layers", &R::model, &S::identical_layers,
           {"", "every block starts with the values of block 0", kRefuse, ""}),
  };
}

}  // namespace

std::vector<OptionRow> rows::model_rows() {
  std::vector<OptionRow> all;
  for (const auto& section :
       {model_shape_rows(), gmlp_rows(), transformer_rows(), mixer_rows(), model_start_rows()}) {
    all.insert(all.end(), section.begin(), section.end());
  }
  return all;
}

}  // namespace sluice::cli
