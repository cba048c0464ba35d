#include "trainer/train/import_export.h"

#include <ATen/ops/equal.h>
#include <ATen/ops/ones.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "tests/unit/train/support.h"
#include "trainer/train/errors.h"

namespace sluice::train {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

constexpr std::int64_t kVocabulary = 11;

model::ModelOptions small() {
  model::ModelOptions options;
  options.layers = 2;
  options.d_model = 8;
  options.d_ffn = 24;
  options.seq_len = 5;
  options.heads = 2;
  options.init_std = 0.3;
  options.spatial_init = 2;
  return options;
}

model::ModelOptions gmlp() {
  model::ModelOptions options = small();
  options.tied = false;
  options.head_bias = true;
  return options;
}

model::ModelOptions labml() {
  model::ModelOptions options = gmlp();
  options.positions = "sinusoidal";
  options.scale_embedding = true;
  return options;
}

model::ModelOptions amlp() {
  model::ModelOptions options = gmlp();
  options.tiny_attention = 4;
  options.tiny_attention_qkv_bias = false;
  options.gate_activation = "tanh";
  return options;
}

model::ModelOptions heads() {
  model::ModelOptions options = amlp();
  options.spatial_heads = 3;
  options.token_shift = 1;
  options.causal = false;
  return options;
}

model::ModelOptions gpt2() {
  model::ModelOptions options = small();
  options.kind = "transformer";
  options.positions = "learned";
  return options;
}

model::ModelOptions untied_gpt2() {
  model::ModelOptions options = gpt2();
  options.tied = false;
  return options;
}

model::ModelOptions mixer() {
  model::ModelOptions options = small();
  options.kind = "mixer";
  options.causal = false;
  return options;
}

struct RoundTrip {
  const char* layout;
  model::ModelOptions options;
};

std::vector<RoundTrip> round_trips() {
  return {{"sluice", small()},
          {"sluice", mixer()},
          {"sluice", untied_gpt2()},
          {"labml", labml()},
          {"g-mlp-pytorch", gmlp()},
          {"g-mlp-pytorch", amlp()},
          {"g-mlp-pytorch", heads()},
          {"g-mlp-pytorch-0.0", gmlp()},
          {"g-mlp-pytorch-0.0", amlp()},
          {"g-mlp-pytorch-0.1", amlp()},
          {"gpt2", gpt2()},
          {"gpt2", untied_gpt2()}};
}

class ImportExport : public testing::Test {
 protected:
  SafetensorsFile write(const std::vector<NamedTensor>& tensors) {
    const auto file = directory_.path() / "x.safetensors";
    write_safetensors(file, tensors);
    return SafetensorsFile(file);
  }
  static std::vector<std::string> faults(const SafetensorsFile& file, const std::string& layout,
                                         const model::ModelOptions& options) {
    Replica into(options, kVocabulary, at::kFloat, ReplicaUse::kInference);
    try {
      import_weights(file, find_layout(layout), into);
    } catch (const InputError& error) {
      return error.faults();
    }
    return {};
  }

 private:
  TemporaryDirectory directory_;
};

TEST_F(ImportExport, GoesOutAndBackBitForBit) {
  for (const auto& [name, options] : round_trips()) {
    for (const at::ScalarType type : {at::kFloat, at::kDouble}) {
      Replica replica(options, kVocabulary, type, ReplicaUse::kInference);
      replica.initialise(7);
      const Layout& layout = find_layout(name);
      const SafetensorsFile file = write(export_weights(replica, layout));
      EXPECT_EQ(exact_type(file), type) << name;
      EXPECT_EQ(stored_vocabulary(file, layout), kVocabulary) << name;
      Replica back(options, kVocabulary, type, ReplicaUse::kInference);
      import_weights(file, layout, back);
      EXPECT_TRUE(at::equal(back.parameters(), replica.parameters())) << name;
      EXPECT_GT(back.parameters().ne(0).sum().item<std::int64_t>(), 700) << name;
    }
  }
}

// The heads' dimension came to stand in front within a day of versions.
TEST_F(ImportExport, TheDimensionOfOneHeadMayBeMissing) {
  Replica replica(gmlp(), kVocabulary, at::kFloat, ReplicaUse::kInference);
  replica.initialise(7);
  const Layout& layout = find_layout("g-mlp-pytorch-0.1");
  auto tensors = export_weights(replica, layout);
  for (auto& [name, tensor] : tensors)
    if (name.find("sgu.weight") != std::string::npos || name.find("sgu.bias") != std::string::npos)
      tensor = tensor.squeeze(0);
  Replica back(gmlp(), kVocabulary, at::kFloat, ReplicaUse::kInference);
  import_weights(write(tensors), layout, back);
  EXPECT_TRUE(at::equal(back.parameters(), replica.parameters()));
}

TEST_F(ImportExport, NamesEverythingThatDoesNotFit) {
  Replica replica(gmlp(), kVocabulary, at::kFloat, ReplicaUse::kInference);
  auto tensors = export_weights(replica, find_layout("g-mlp-pytorch"));
  std::erase_if(tensors, [](const NamedTensor& one) { return one.name == "to_logits.1.bias"; });
  for (auto& [name, tensor] : tensors)
    if (name == "layers.1.fn.norm.weight") tensor = at::ones({9});
  tensors.push_back({"layers.1.fn.extra.weight", at::ones({2})});
  tensors.push_back({"net.to_logits.0.bias", at::ones({8})});
  EXPECT_THAT(
      faults(write(tensors), "g-mlp-pytorch", gmlp()),
      ElementsAre("tensor net.to_logits.0.bias: stands twice, with and without the prefix net.",
                  "tensor layers.1.fn.norm.weight: has shape [9], the model needs [8]",
                  "tensor to_logits.1.bias: is missing (head.bias of the model, of shape [11])",
                  "tensor layers.1.fn.extra.weight: is not expected, the model has no such parameter"));
}

TEST_F(ImportExport, RefusesSettingsThatTheLayoutCannotExpressBeforeTensors) {
  Replica replica(small(), kVocabulary, at::kFloat, ReplicaUse::kInference);
  EXPECT_THROW((void)export_weights(replica, find_layout("gpt2")), InputError);
  const SafetensorsFile file = write(export_weights(replica, find_layout("sluice")));
  EXPECT_THAT(faults(file, "g-mlp-pytorch", small()),
              ElementsAre(HasSubstr("model.tied = true: must be false"),
                          HasSubstr("model.head_bias = false: must be true")));
  EXPECT_EQ(stored_vocabulary(file, find_layout("gpt2")), std::nullopt);
}

}  // namespace
}  // namespace sluice::train
