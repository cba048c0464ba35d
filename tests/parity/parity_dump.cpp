#include <ATen/core/Tensor.h>

#include <cstdint>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <string>
#include <vector>

#include "tests/support/small_model.h"
#include "trainer/cli/option_table.h"
#include "trainer/train/files.h"
#include "trainer/train/safetensors.h"

// parity_dump FOLDER: for every NAME.ini of the folder, a [model], writes NAME.safetensors: parameters drawn
// at random, tokens, targets, and what the model makes of them in float32: logits, loss, every parameter's
// gradient.
namespace sluice::testing {
namespace {

constexpr std::int64_t kVocabulary = 37;
constexpr std::int64_t kBatch = 3;
constexpr std::uint64_t kSeed = 5;

void dump(const std::filesystem::path& ini, const std::filesystem::path& out) {
  const model::ModelOptions options = cli::parse_model_options(train::read_file(ini), ini.string());
  const SmallModel small = make_small_model(options, kVocabulary, at::kFloat, kSeed);
  // Shorter than n in every other case.
  const std::int64_t length = ini.stem().string().size() % 2 == 0 ? options.seq_len : options.seq_len - 2;
  const at::Tensor tokens = random_tokens({kBatch, length}, kVocabulary, kSeed + 1);
  const at::Tensor targets = random_tokens({kBatch, length}, kVocabulary, kSeed + 2);
  targets[1].fill_(model::kIgnore);
  std::vector<train::NamedTensor> tensors;
  const auto add = [&](const std::string& name, const at::Tensor& tensor) {
    const bool whole = tensor.scalar_type() == at::kLong;
    tensors.push_back({name, (whole ? tensor.to(at::kDouble) : tensor.detach()).contiguous()});
  };
  add("tokens", tokens);
  add("targets", targets);
  add("logits", small.model->logits(tokens));
  const at::Tensor loss = small.model->loss_sum(tokens, targets);
  loss.backward();
  add("loss", loss.reshape({1}));
  for (std::size_t i = 0; i < small.specs.size(); ++i) {
    add("parameter." + small.specs[i].name, small.leaves[i]);
    add("gradient." + small.specs[i].name, small.leaves[i].grad());
  }
  train::write_safetensors(out, tensors);
}

}  // namespace
}  // namespace sluice::testing

int main(int argc, char** argv) {
  try {
    if (argc != 2) {
      std::fputs("usage: parity_dump FOLDER\n", stderr);
      return 2;
    }
    for (const auto& entry : std::filesystem::directory_iterator(argv[1])) {
      if (entry.path().extension() != ".ini") continue;
      std::filesystem::path out = entry.path();
      sluice::testing::dump(entry.path(), out.replace_extension(".safetensors"));
    }
  } catch (const std::exception& error) {
    std::fprintf(stderr, "parity_dump: %s\n", error.what());
    return 1;
  }
  return 0;
}
