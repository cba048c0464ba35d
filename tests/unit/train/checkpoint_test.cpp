#include "trainer/train/checkpoint.h"

#include <ATen/ops/equal.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <set>

#include "tests/unit/train/support.h"
#include "trainer/train/errors.h"
#include "trainer/train/files.h"

namespace fs = std::filesystem;

namespace sluice::train {
namespace {

using std::string_literals::operator""s;
using testing::HasSubstr;

/// Its files are no tokenizer, but have what the real ones have.
class FileTokenizer : public dataio::Tokenizer {
 public:
  [[nodiscard]] std::string kind() const override { return "bytes"; }
  [[nodiscard]] std::int64_t vocabulary_size() const override { return 257; }
  [[nodiscard]] std::int32_t end_of_document() const override { return 256; }
  void encode(std::string_view /*text*/, std::vector<std::int32_t>& /*out*/) const override {}
  [[nodiscard]] std::string decode(std::span<const std::int32_t> /*ids*/) const override { return ""; }
  [[nodiscard]] dataio::TokenizerFiles files() const override { return {.json = "{}", .model = "a\0b"s}; }
};

const parallel::ArenaLayout& layout() {
  static const parallel::ArenaLayout kLayout(
      {{"embed.weight", {5, 3}}, {"norm.weight", {3}}, {"norm.bias", {3}}});
  return kLayout;
}

StateBuffers buffers(double base) {
  const auto fill = [&](double start) {
    at::Tensor flat = layout().allocate(at::kFloat, at::kCPU);
    for (std::int64_t i = 0; i < 3; ++i) layout().view(flat, i).fill_(start + static_cast<double>(i));
    return flat;
  };
  return {.parameters = fill(base), .first_moment = fill(base + 10), .second_moment = fill(base + 20)};
}

CheckpointInfo info(std::int64_t step) {
  CheckpointInfo result;
  result.state = {.step = step, .tokens = step * 7, .next_sample = step * 4};
  result.model.layers = 3;
  result.model.norm_eps = 1.0 / 3.0;
  result.model.seed = ~std::uint64_t{0};
  result.vocabulary_size = 257;
  result.corpus_fingerprint = "0123456789abcdef";
  result.corpora = {{"00000000000000aa", 0.1}, {"00000000000000bb", 3}};
  result.world_size = 2;
  result.device = "Accelerator 9";
  result.build = "sluice     1.0\nMPI        Open MPI v4\n";
  result.choices = {{"bucket_elements", 5'000'000'000}};
  result.products = R"({"algorithms":{},"cublaslt":7,"device":"Accelerator 9"})";
  result.resolved_ini = "[train]\nsteps = 5\n";
  return result;
}

class CheckpointTest : public testing::Test {
 protected:
  fs::path write(std::int64_t step, CheckpointOptions retention = {}) {
    return write_checkpoint(run(), info(step), layout(), buffers(static_cast<double>(step)), FileTokenizer(),
                            retention);
  }
  [[nodiscard]] const fs::path& run() const { return directory_.path(); }
  [[nodiscard]] std::set<std::string> names() const {
    std::set<std::string> found;
    for (const auto& entry : fs::directory_iterator(run() / "checkpoints"))
      found.insert(entry.path().filename());
    return found;
  }
  static void flip_byte(const fs::path& file, std::int64_t from_end) {
    std::string bytes = read_file(file);
    bytes[bytes.size() - static_cast<std::size_t>(from_end)] ^= 1;
    std::ofstream(file, std::ios::binary) << bytes;
  }

 private:
  TemporaryDirectory directory_;
};

TEST_F(CheckpointTest, ReadsBackEverything) {
  write(100);
  std::vector<std::string> warnings;
  const auto found = find_checkpoint(run(), warnings);
  ASSERT_TRUE(found);
  EXPECT_TRUE(warnings.empty());
  const CheckpointInfo expected = info(100);
  EXPECT_EQ(found->directory, run() / "checkpoints" / "step-000100");
  EXPECT_EQ(found->state.step, 100);
  EXPECT_EQ(found->state.tokens, 700);
  EXPECT_EQ(found->state.next_sample, 400);
  EXPECT_EQ(found->model.layers, 3);
  EXPECT_EQ(found->model.norm_eps, expected.model.norm_eps);
  EXPECT_EQ(found->model.seed, expected.model.seed);
  EXPECT_EQ(found->vocabulary_size, 257);
  EXPECT_EQ(found->corpus_fingerprint, expected.corpus_fingerprint);
  ASSERT_EQ(found->corpora.size(), 2U);
  EXPECT_EQ(found->corpora[0].fingerprint, "00000000000000aa");
  EXPECT_EQ(found->corpora[0].weight, 0.1);
  EXPECT_EQ(found->corpora[1].weight, 3);
  EXPECT_EQ(found->world_size, 2);
  EXPECT_EQ(found->device, expected.device);
  EXPECT_EQ(found->build, expected.build);
  EXPECT_EQ(found->choices, expected.choices);
  EXPECT_EQ(found->products, expected.products);
  EXPECT_EQ(found->resolved_ini, expected.resolved_ini);
  EXPECT_EQ(found->tokenizer, FileTokenizer().files());

  StateBuffers into = buffers(-1);
  load_checkpoint(*found, layout(), into);
  const StateBuffers want = buffers(100);
  EXPECT_TRUE(at::equal(into.parameters, want.parameters));
  EXPECT_TRUE(at::equal(into.first_moment, want.first_moment));
  EXPECT_TRUE(at::equal(into.second_moment, want.second_moment));
}

TEST_F(CheckpointTest, WeightsAloneLoadIntoAnotherType) {
  const fs::path checkpoint = write(3);
  std::vector<std::string> warnings;
  at::Tensor wide = layout().allocate(at::kDouble, at::kCPU);
  load_checkpoint(*find_checkpoint(checkpoint, warnings), layout(),
                  {.parameters = wide, .first_moment = {}, .second_moment = {}});
  EXPECT_TRUE(at::equal(wide, buffers(3).parameters.to(at::kDouble)));
}

TEST_F(CheckpointTest, PointerNamesTheNewest) {
  write(1);
  write(2);
  EXPECT_EQ(fs::read_symlink(run() / "checkpoints" / "latest"), "step-000002");
  EXPECT_TRUE(fs::exists(run() / "checkpoints" / "latest" / "manifest.json"));
}

TEST_F(CheckpointTest, KeepsTheNewestAndEveryMth) {
  for (std::int64_t step = 10; step <= 70; step += 10)
    write(step, {.every = 10, .keep = 2, .keep_every = 30, .at = {}});
  EXPECT_EQ(names(), (std::set<std::string>{"latest", "step-000030", "step-000060", "step-000070"}));
}

TEST_F(CheckpointTest, LeftoversOfAKilledWriterAreSweptAndNeverRead) {
  write(1);
  fs::create_directory(run() / "checkpoints" / "step-000009.tmp");
  std::vector<std::string> warnings;
  EXPECT_EQ(find_checkpoint(run(), warnings)->state.step, 1);
  EXPECT_TRUE(warnings.empty());
  write(2);
  EXPECT_EQ(names(), (std::set<std::string>{"latest", "step-000001", "step-000002"}));
}

TEST_F(CheckpointTest, AStepDoneAnewReplacesItsCheckpoint) {
  write(5);
  flip_byte(run() / "checkpoints" / "step-000005" / "model.safetensors", 1);
  EXPECT_FALSE(verify_checkpoint(run() / "checkpoints" / "step-000005").empty());
  write(5);
  EXPECT_TRUE(verify_checkpoint(run() / "checkpoints" / "step-000005").empty());
  EXPECT_EQ(names(), (std::set<std::string>{"latest", "step-000005"}));
}

TEST_F(CheckpointTest, FallsBackToTheNewestGoodOneWithAWarning) {
  struct Damage {
    const char* file;
    std::int64_t from_end;
    const char* reason;
  };
  for (const auto& [file, from_end, reason] :
       {Damage{"model.safetensors", 2, "second_moment.norm.bias"},
        Damage{"model.safetensors", 2 + 2 * 4 * 21, "tensor norm.bias"},
        Damage{"manifest.json", 20, "manifest.json"}}) {
    write(1);
    write(2);
    const fs::path newest = run() / "checkpoints" / "step-000002";
    flip_byte(newest / file, from_end);
    std::vector<std::string> warnings;
    const auto found = find_checkpoint(run(), warnings);
    ASSERT_TRUE(found) << file;
    EXPECT_EQ(found->state.step, 1) << file;
    ASSERT_EQ(warnings.size(), 1U) << file;
    EXPECT_THAT(warnings[0], HasSubstr("step-000002"));
    EXPECT_THAT(warnings[0], HasSubstr(reason));
    EXPECT_THROW(static_cast<void>(find_checkpoint(newest, warnings)), InputError) << "asked for by name";
  }
}

TEST_F(CheckpointTest, MissingFilesAreFaults) {
  for (const char* file : {"model.safetensors", "manifest.json"}) {
    const fs::path checkpoint = write(4);
    fs::remove(checkpoint / file);
    ASSERT_FALSE(verify_checkpoint(checkpoint).empty()) << file;
    EXPECT_THAT(verify_checkpoint(checkpoint)[0], HasSubstr(file));
  }
}

TEST_F(CheckpointTest, NewerFormatIsRefusedByVersion) {
  const fs::path file = write(4) / "manifest.json";
  auto json = nlohmann::json::parse(read_file(file));
  json["version"] = 3;
  std::ofstream(file) << json;
  EXPECT_THAT(verify_checkpoint(file.parent_path())[0], HasSubstr("version 3"));
}

TEST_F(CheckpointTest, NeitherRunNorCheckpointIsRefused) {
  std::vector<std::string> warnings;
  EXPECT_THROW(static_cast<void>(find_checkpoint(run(), warnings)), InputError);
  EXPECT_THROW(static_cast<void>(find_checkpoint(run() / "absent", warnings)), InputError);
  std::ofstream(run() / "resolved.ini") << "";
  EXPECT_FALSE(find_checkpoint(run(), warnings)) << "a run that has no checkpoint yet";
}

TEST_F(CheckpointTest, EveryTensorThatDoesNotFitIsListed) {
  write(1);
  std::vector<std::string> warnings;
  const auto found = find_checkpoint(run(), warnings);
  const parallel::ArenaLayout other({{"embed.weight", {5, 4}}, {"norm.weight", {3}}, {"head.bias", {5}}});
  try {
    load_checkpoint(
        *found, other,
        {.parameters = other.allocate(at::kFloat, at::kCPU), .first_moment = {}, .second_moment = {}});
    FAIL() << "loaded";
  } catch (const InputError& error) {
    EXPECT_EQ(error.faults().size(), 3U);
    EXPECT_THAT(error.what(), HasSubstr("embed.weight: shape [5, 3], expected [5, 4]"));
    EXPECT_THAT(error.what(), HasSubstr("head.bias is missing"));
    EXPECT_THAT(error.what(), HasSubstr("norm.bias is unknown"));
  }
}

}  // namespace
}  // namespace sluice::train
