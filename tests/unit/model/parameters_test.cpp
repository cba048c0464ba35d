#include "trainer/model/parameters.h"

#include <ATen/ops/equal.h>
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

namespace sluice::model {
namespace {

ModelOptions two_layers() {
  ModelOptions options;
  options.layers = 2;
  options.d_model = 16;
  options.d_ffn = 24;
  options.seq_len = 10;
  return options;
}

ParameterSpec find(const std::vector<ParameterSpec>& specs, const std::string& name) {
  const auto it =
      std::find_if(specs.begin(), specs.end(), [&](const ParameterSpec& s) { return s.name == name; });
  if (it == specs.end()) throw std::out_of_range(name);
  return *it;
}

TEST(Parameters, StandInTheOrderOfFirstUse) {
  ModelOptions options = two_layers();
  options.layers = 1;
  options.tied = false;
  options.head_bias = true;
  std::vector<std::string> names;
  for (const ParameterSpec& spec : parameter_specs(options, 7)) names.push_back(spec.name);
  EXPECT_EQ(names, (std::vector<std::string>{
                       "embed.weight", "blocks.0.norm.weight", "blocks.0.norm.bias", "blocks.0.expand.weight",
                       "blocks.0.expand.bias", "blocks.0.sgu.norm.weight", "blocks.0.sgu.norm.bias",
                       "blocks.0.sgu.weight", "blocks.0.sgu.bias", "blocks.0.contract.weight",
                       "blocks.0.contract.bias", "norm.weight", "norm.bias", "head.weight", "head.bias"}));
}

TEST(Parameters, OfATransformerStandInTheOrderOfFirstUse) {
  ModelOptions options = two_layers();
  options.kind = "transformer", options.layers = 1, options.positions = "learned";
  const auto names = [&] {
    std::vector<std::string> all;
    for (const ParameterSpec& spec : parameter_specs(options, 7)) all.push_back(spec.name);
    return all;
  };
  EXPECT_EQ(
      names(),
      (std::vector<std::string>{
          "embed.weight", "positions.weight", "blocks.0.attention.norm.weight",
          "blocks.0.attention.norm.bias", "blocks.0.attention.qkv.weight", "blocks.0.attention.qkv.bias",
          "blocks.0.attention.out.weight", "blocks.0.attention.out.bias", "blocks.0.mlp.norm.weight",
          "blocks.0.mlp.norm.bias", "blocks.0.mlp.expand.weight", "blocks.0.mlp.expand.bias",
          "blocks.0.mlp.contract.weight", "blocks.0.mlp.contract.bias", "norm.weight", "norm.bias"}));
  options.bias = false, options.norm = "rms", options.positions = "rotary", options.tied = false;
  EXPECT_EQ(names(),
            (std::vector<std::string>{"embed.weight", "blocks.0.attention.norm.weight",
                                      "blocks.0.attention.qkv.weight", "blocks.0.attention.out.weight",
                                      "blocks.0.mlp.norm.weight", "blocks.0.mlp.expand.weight",
                                      "blocks.0.mlp.contract.weight", "norm.weight", "head.weight"}));
}

TEST(Parameters, OfAVariantStandInTheOrderOfFirstUse) {
  ModelOptions options = two_layers();
  options.layers = 1, options.tiny_attention = 3, options.gate = "additive", options.spatial = "toeplitz";
  options.spatial_heads = 2;
  std::vector<std::string> block;
  for (const ParameterSpec& spec : parameter_specs(options, 7)) {
    if (!spec.name.starts_with("blocks.0.")) continue;
    std::string text = spec.name.substr(9);
    for (const std::int64_t extent : spec.shape) text += " " + std::to_string(extent);
    block.push_back(text + (spec.decay == WeightDecay::kApply ? " decays" : ""));
  }
  EXPECT_EQ(block, (std::vector<std::string>{"norm.weight 16", "norm.bias 16", "expand.weight 24 16 decays",
                                             "expand.bias 24", "attention.qkv.weight 9 16 decays",
                                             "attention.qkv.bias 9", "sgu.norm.weight 24", "sgu.norm.bias 24",
                                             "sgu.weight 2 19 decays", "sgu.bias 2 10",
                                             "attention.out.weight 24 3 decays", "attention.out.bias 24",
                                             "contract.weight 16 24 decays", "contract.bias 16"}));
  options.gate_norm = false, options.tiny_attention_qkv_bias = false, options.gate = "split";
  options.spatial = "free";
  const auto specs = parameter_specs(options, 7);
  EXPECT_THROW((void)find(specs, "blocks.0.sgu.norm.weight"), std::out_of_range);
  EXPECT_THROW((void)find(specs, "blocks.0.attention.qkv.bias"), std::out_of_range);
  EXPECT_EQ(find(specs, "blocks.0.sgu.weight").shape, (std::vector<std::int64_t>{2, 10, 10}));
  EXPECT_EQ(find(specs, "blocks.0.sgu.weight").reads, Reads::kLowerTriangle);
  EXPECT_EQ(find(specs, "blocks.0.attention.out.weight").shape, (std::vector<std::int64_t>{12, 3}));
}

TEST(Parameters, OfPositionsOnlyAndOfAMixerStandInTheOrderOfFirstUse) {
  ModelOptions options = two_layers();
  options.kind = "transformer", options.layers = 1, options.positions = "relative", options.heads = 4;
  options.attention = "positions_only";
  const auto block = [&] {
    std::vector<std::string> all;
    for (const ParameterSpec& spec : parameter_specs(options, 7)) {
      if (!spec.name.starts_with("blocks.0.") || spec.name.find("mlp.") != std::string::npos) continue;
      std::string text = spec.name.substr(9);
      for (const std::int64_t extent : spec.shape) text += " " + std::to_string(extent);
      all.push_back(text + (spec.decay == WeightDecay::kApply ? " decays" : ""));
    }
    return all;
  };
  EXPECT_EQ(block(),
            (std::vector<std::string>{"attention.norm.weight 16", "attention.norm.bias 16",
                                      "attention.value.weight 16 16 decays", "attention.value.bias 16",
                                      "attention.relative.weight 4 32", "attention.out.weight 16 16 decays",
                                      "attention.out.bias 16"}));
  options = two_layers();
  options.kind = "mixer", options.layers = 1, options.causal = false, options.d_spatial = 5;
  EXPECT_EQ(block(),
            (std::vector<std::string>{"token.norm.weight 16", "token.norm.bias 16",
                                      "token.expand.weight 5 10 decays", "token.expand.bias 5",
                                      "token.contract.weight 10 5 decays", "token.contract.bias 10"}));
}

/// Table 3 of arXiv 2105.08050: BERT-base of 110 M, of which queries and keys are 14.2 M. The 96 M
/// printed without them take BERT's learned positions beside the relative ones.
TEST(Parameters, OfEncodersAreThePapers) {
  ModelOptions options;
  options.kind = "transformer", options.causal = false, options.layers = 12, options.d_model = 768;
  options.d_ffn = 3072, options.heads = 12, options.seq_len = 128;
  const auto count = [&](const std::string& positions, const std::string& attention) {
    options.positions = positions, options.attention = attention;
    return parameter_count(parameter_specs(options, 32000));
  };
  EXPECT_EQ(count("learned", "full"), 109'730'304);
  EXPECT_EQ(count("relative", "full"), 109'636'608);
  EXPECT_EQ(count("relative", "positions_only"), 109'636'608 - 12 * 2 * (768 * 768 + 768));
  EXPECT_EQ(count("learned+relative", "full"), 109'636'608 + 128 * 768);
  EXPECT_EQ(count("learned+relative", "positions_only"), 95'560'704);
}

TEST(Parameters, DecayMatricesOnly) {
  for (const std::string kind : {"gmlp", "transformer", "mixer"}) {
    ModelOptions options = two_layers();
    options.kind = kind;
    options.causal = kind != "mixer";
    options.tied = false;
    options.head_bias = true;
    for (const ParameterSpec& spec : parameter_specs(options, 7)) {
      EXPECT_EQ(spec.decay == WeightDecay::kApply, spec.shape.size() == 2) << spec.name;
    }
  }
}

/// 124 million, as everybody counts them: the vocabulary's 50,257 ids padded to 50,304.
TEST(Parameters, OfGpt2AreItsCountAndBeginAsItsDo) {
  ModelOptions options;
  options.kind = "transformer", options.layers = 12, options.d_model = 768, options.d_ffn = 3072;
  options.heads = 12, options.seq_len = 1024, options.positions = "learned";
  EXPECT_EQ(parameter_count(parameter_specs(options, 50257)), 124'439'808);
  const auto specs = parameter_specs(options, 50304);
  EXPECT_EQ(parameter_count(specs), 124'475'904);
  for (const std::string name :
       {"embed.weight", "positions.weight", "blocks.3.attention.qkv.weight", "blocks.3.mlp.expand.weight"}) {
    EXPECT_DOUBLE_EQ(find(specs, name).init.scale, 0.02) << name;
  }
  for (const std::string name : {"blocks.3.attention.out.weight", "blocks.3.mlp.contract.weight"})
    EXPECT_DOUBLE_EQ(find(specs, name).init.scale, 0.02 / std::sqrt(24.0)) << name;
}

/// The paper's own arithmetic (tables 3 to 5 fit it) with a free W in place of the Toeplitz one, and the
/// final norm.
std::int64_t paper_count(std::int64_t layers, std::int64_t d, std::int64_t f, std::int64_t n) {
  return layers * (2 * d + d * f + f + f + n * n + n + f / 2 * d + d) + 32000 * d + 2 * d;
}

TEST(Parameters, CountsAreThePapers) {
  ModelOptions base;
  base.layers = 48, base.d_model = 512, base.d_ffn = 3072, base.seq_len = 512;
  EXPECT_EQ(parameter_count(parameter_specs(base, 32000)), paper_count(48, 512, 3072, 512));
  EXPECT_NEAR(static_cast<double>(parameter_count(parameter_specs(base, 32000))), 142.6e6, 0.05e6);
  ModelOptions ablation = base;
  ablation.layers = 36, ablation.seq_len = 128;
  EXPECT_EQ(parameter_count(parameter_specs(ablation, 32000)), paper_count(36, 512, 3072, 128));
  base.tied = false;
  EXPECT_EQ(parameter_count(parameter_specs(base, 32000)), paper_count(48, 512, 3072, 512) + 32000 * 512);
}

/// Tables 3 to 5 and figure 8, in units of 10^4, without our final norm; the un-split ones of table 3 are of
/// d_ffn 2048.
TEST(Parameters, CountsOfThePapersLanguageModelsAreItsPrintedOnes) {
  struct Row {
    std::int64_t layers, d_model, d_ffn, positions, tiny_attention;
    std::string gate;
    double millions;
  };
  for (const Row& row :
       {Row{18, 512, 3072, 128, 0, "split", 59.00}, Row{36, 512, 3072, 128, 0, "split", 101.61},
        Row{72, 512, 3072, 128, 0, "split", 186.83}, Row{144, 512, 3072, 128, 0, "split", 357.28},
        Row{18, 512, 3072, 128, 64, "split", 62.57}, Row{36, 512, 3072, 128, 64, "split", 108.75},
        Row{72, 512, 3072, 128, 64, "split", 201.11}, Row{144, 512, 3072, 128, 64, "split", 385.84},
        Row{48, 512, 3072, 512, 0, "split", 130.07}, Row{36, 512, 3072, 512, 64, "split", 108.79},
        Row{96, 768, 3072, 512, 0, "split", 365.27}, Row{72, 768, 3072, 512, 128, "split", 315.63},
        Row{144, 1024, 4096, 512, 0, "split", 940.58}, Row{36, 512, 2048, 128, 0, "multiplicative", 92.17},
        Row{36, 512, 2048, 128, 0, "additive", 92.17}, Row{36, 512, 2048, 128, 0, "linear", 92.17}}) {
    ModelOptions options;
    options.layers = row.layers, options.d_model = row.d_model, options.d_ffn = row.d_ffn;
    options.seq_len = row.positions, options.tiny_attention = row.tiny_attention, options.gate = row.gate;
    options.spatial = "toeplitz", options.causal = false;
    const std::int64_t final_norm = 2 * row.d_model;
    EXPECT_NEAR(static_cast<double>(parameter_count(parameter_specs(options, 32000)) - final_norm) / 1e6,
                row.millions, 0.005)
        << row.layers << " layers, " << row.gate << ", " << row.tiny_attention;
  }
}

TEST(Parameters, LabmlExperimentHasItsCount) {
  ModelOptions options;  // 6 layers, d 512, f 2048, n 256, 65 characters, untied head with a bias
  options.layers = 6, options.d_model = 512, options.d_ffn = 2048, options.seq_len = 256;
  options.tied = false, options.head_bias = true;
  EXPECT_EQ(parameter_count(parameter_specs(options, 65)), 9'933'377);
}

TEST(Parameters, RefuseWhatIsNotAModel) {
  ModelOptions options = two_layers();
  options.d_ffn = 25;
  EXPECT_THROW((void)parameter_specs(options, 7), c10::Error);
  options = two_layers();
  options.d_ffn = 25, options.gate = "additive";
  EXPECT_NO_THROW((void)parameter_specs(options, 7));
  options.spatial_heads = 2;
  EXPECT_THROW((void)parameter_specs(options, 7), c10::Error);
  options = two_layers();
  options.gate = "cubic";
  EXPECT_THROW((void)parameter_specs(options, 7), c10::Error);
  options = two_layers();
  options.kind = "mixer";
  EXPECT_THROW((void)parameter_specs(options, 7), c10::Error);
  options = two_layers();
  options.init = "zeros";
  EXPECT_THROW((void)parameter_specs(options, 7), c10::Error);
}

RC_GTEST_PROP(InitialValues, ArePureFunctionsOfNameAndSeed, (std::uint64_t seed)) {
  for (const ParameterSpec& spec : parameter_specs(two_layers(), 7)) {
    const at::Tensor wide = initial_value(spec, seed, at::kDouble);
    RC_ASSERT(wide.sizes() == at::IntArrayRef(spec.shape));
    RC_ASSERT(at::equal(wide, initial_value(spec, seed, at::kDouble)));
    RC_ASSERT(at::equal(wide.to(at::kFloat), initial_value(spec, seed, at::kFloat)));
    if (spec.shape.size() == 2) RC_ASSERT(!at::equal(wide, initial_value(spec, seed + 1, at::kDouble)));
  }
}

TEST(InitialValues, DifferBetweenLayersUnlessIdenticalIsAsked) {
  for (const bool identical : {false, true}) {
    ModelOptions options = two_layers();
    options.identical_layers = identical;
    const auto specs = parameter_specs(options, 7);
    for (const char* name : {"expand.weight", "sgu.weight", "contract.weight"}) {
      const at::Tensor first = initial_value(find(specs, std::string("blocks.0.") + name), 3, at::kDouble);
      const at::Tensor second = initial_value(find(specs, std::string("blocks.1.") + name), 3, at::kDouble);
      EXPECT_EQ(at::equal(first, second), identical) << name;
    }
  }
}

TEST(InitialValues, HaveTheSpreadThatIsAsked) {
  ModelOptions options;
  options.d_model = 128, options.d_ffn = 512, options.seq_len = 100;
  options.init_std = 0.05, options.embedding_std = 1.0, options.spatial_init = 0.01;
  const auto specs = parameter_specs(options, 300);
  const auto spread = [](const at::Tensor& value) { return value.std().item<double>(); };
  EXPECT_NEAR(spread(initial_value(find(specs, "embed.weight"), 1, at::kDouble)), 1.0, 0.02);
  EXPECT_NEAR(spread(initial_value(find(specs, "blocks.0.expand.weight"), 1, at::kDouble)), 0.05, 0.001);
  const at::Tensor spatial = initial_value(find(specs, "blocks.0.sgu.weight"), 1, at::kDouble);
  EXPECT_LE(spatial.abs().max().item<double>(), 1e-4);
  EXPECT_NEAR(spread(spatial), 1e-4 / std::sqrt(3.0), 2e-6);
  EXPECT_EQ(initial_value(find(specs, "blocks.0.sgu.bias"), 1, at::kDouble).min().item<double>(), 1.0);
  EXPECT_EQ(initial_value(find(specs, "blocks.0.expand.bias"), 1, at::kDouble).abs().max().item<double>(),
            0.0);

  options.init = "fan_in";
  options.spatial_init_per_position = false;
  const auto labml = parameter_specs(options, 300);
  const double bound = 1 / std::sqrt(256.0);  // contract reads d_ffn / 2 inputs
  for (const char* name : {"blocks.5.contract.weight", "blocks.5.contract.bias"}) {
    const at::Tensor value = initial_value(find(labml, name), 1, at::kDouble);
    EXPECT_LE(value.abs().max().item<double>(), bound) << name;
    EXPECT_NEAR(spread(value), bound / std::sqrt(3.0), 0.1 * bound) << name;
  }
  EXPECT_GT(initial_value(find(labml, "blocks.0.sgu.weight"), 1, at::kDouble).max().item<double>(), 0.0099);
}

}  // namespace
}  // namespace sluice::model
