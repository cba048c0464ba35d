#include "trainer/train/layouts.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

namespace sluice::train {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

model::ModelOptions gmlp() {
  model::ModelOptions options;
  options.layers = 11;
  options.tied = false;
  options.head_bias = true;
  return options;
}

TEST(Layouts, PatternsTakeANumberAtTheirStar) {
  EXPECT_TRUE(matches("h.10.attn.bias", "h.*.attn.bias"));
  EXPECT_TRUE(matches("wte", "wte"));
  EXPECT_TRUE(matches("h.7", "h.*"));
  for (const char* name :
       {"h.attn.bias", "h..attn.bias", "h.1x.attn.bias", "h.1.attn.bias.x", "xh.1.attn.bias"})
    EXPECT_FALSE(matches(name, "h.*.attn.bias")) << name;
}

TEST(Layouts, EveryParameterHasItsOwnNameInThem) {
  for (const std::string& name : layout_names()) {
    model::ModelOptions options = gmlp();
    if (name == "labml") {
      options.positions = "sinusoidal";
      options.scale_embedding = true;
    } else if (name == "gpt2") {
      options.kind = "transformer";
      options.positions = "learned";
      options.head_bias = false;
    } else {
      options.tiny_attention = 8;
      options.tiny_attention_qkv_bias = false;
    }
    const Layout& layout = find_layout(name);
    EXPECT_THAT(layout_faults(layout, options), IsEmpty()) << name;
    const auto specs = model::parameter_specs(options, 65);
    const auto mapped = map_tensors(layout, options, specs);
    ASSERT_EQ(mapped.size(), specs.size());
    std::set<std::string> theirs;
    for (std::size_t i = 0; i < specs.size(); ++i) {
      EXPECT_EQ(mapped[i].ours, specs[i].name);
      EXPECT_TRUE(theirs.insert(mapped[i].theirs).second) << name << ": " << mapped[i].theirs;
      EXPECT_EQ(mapped[i].theirs.find('*'), std::string::npos);
    }
  }
}

TEST(Layouts, NamesOfAGuessedVersionAreThoseOfTheFile) {
  const auto guessed = [](const std::vector<std::string>& names) {
    return guess_layout("g-mlp-pytorch", names).name;
  };
  EXPECT_EQ(guessed({"layers.0.fn.fn.fn.sgu.weight", "to_embed.weight"}), "g-mlp-pytorch");
  EXPECT_EQ(guessed({"layers.0.fn.fn.sgu.weight", "to_embed.weight"}), "g-mlp-pytorch-0.1");
  EXPECT_EQ(guessed({"net.layers.0.fn.fn.sgu.proj.weight", "net.layers.0.fn.fn.proj_out.bias"}),
            "g-mlp-pytorch-0.0");
  EXPECT_EQ(guessed({"nothing.weight"}), "g-mlp-pytorch");
  EXPECT_EQ(guess_layout("gpt2", {"to_embed.weight"}).name, "gpt2");
}

TEST(Layouts, SettingsOfTrainingAloneDoNotMatter) {
  model::ModelOptions options = gmlp();
  options.dropout = 0.1;
  options.stochastic_depth = 0.2;
  options.init = "fan_in";
  options.seed = 9;
  EXPECT_THAT(layout_faults(find_layout("g-mlp-pytorch"), options), IsEmpty());
  options.spatial_heads = 2;
  EXPECT_THAT(layout_faults(find_layout("g-mlp-pytorch"), options), IsEmpty());
  EXPECT_THAT(layout_faults(find_layout("g-mlp-pytorch-0.0"), options),
              ElementsAre("model.spatial_heads = 2: must be 1 in the layout g-mlp-pytorch-0.0"));
}

}  // namespace
}  // namespace sluice::train
