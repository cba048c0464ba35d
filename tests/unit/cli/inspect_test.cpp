#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "tests/unit/cli/faults.h"
#include "trainer/cli/command.h"
#include "trainer/cli/inspect_fit.h"
#include "trainer/cli/inspect_model.h"
#include "trainer/cli/option_table.h"
#include "trainer/cli/place.h"
#include "trainer/kernels/host_passes.h"

namespace sluice::cli {
namespace {

namespace fs = std::filesystem;
using testing::ElementsAre;
using testing::HasSubstr;

/// A corpus made by `sluice prepare` from two small files.
class Commands : public testing::Test {
 protected:
  Commands() : directory_(testing::TempDir() + "sluice_commands_" + std::to_string(::getpid())) {
    fs::create_directories(directory_ / "text");
    std::ofstream(directory_ / "text/a.txt") << "hello there, " << std::string(300, 'a');
    std::ofstream(directory_ / "text/b.txt") << std::string(300, 'b');
  }
  ~Commands() override { fs::remove_all(directory_); }

  struct Outcome {
    int code = -1;
    std::string out;
  };
  Outcome call(const std::vector<std::string>& words) {
    testing::internal::CaptureStdout();
    testing::internal::CaptureStderr();
    Outcome outcome;
    try {
      outcome.code = dispatch(words, *world_);
    } catch (...) {
      testing::internal::GetCapturedStdout();
      testing::internal::GetCapturedStderr();
      throw;
    }
    outcome.out = testing::internal::GetCapturedStdout();
    testing::internal::GetCapturedStderr();
    return outcome;
  }
  std::string corpus() { return (directory_ / "corpus").string(); }
  void prepare() {
    const auto outcome =
        call({"prepare", "--input", (directory_ / "text").string(), "--tokenizer", "bytes", "--out", corpus(),
              "--valid-fraction=0.1", "--shard-tokens", "200", "--jobs", "2"});
    ASSERT_EQ(outcome.code, kDone);
    ASSERT_THAT(outcome.out, HasSubstr("of 2 documents, 613 bytes; vocabulary 257"));
  }

  fs::path directory_;
  std::unique_ptr<parallel::Communicator> world_ = parallel::make_local_communicator();
};

TEST_F(Commands, InspectSaysWhatPrepareMade) {
  prepare();
  const auto summary = nlohmann::json::parse(call({"inspect", corpus(), "--json"}).out);
  EXPECT_EQ(summary["kind"], "corpus");
  EXPECT_EQ(summary["tokenizer"], "bytes");
  EXPECT_EQ(summary["vocabulary_size"], 257);
  const auto train = summary["splits"]["train"]["tokens"].get<std::int64_t>();
  const auto valid = summary["splits"]["valid"]["tokens"].get<std::int64_t>();
  EXPECT_EQ(train + valid, 614);  // 613 bytes and one end-of-document between the two
  EXPECT_THAT(call({"inspect", corpus()}).out, HasSubstr("fingerprint"));
}

TEST_F(Commands, InspectDecodesAWindow) {
  prepare();
  EXPECT_EQ(call({"inspect", corpus(), "--tokens", "0:5"}).out, "hello\n");
  EXPECT_EQ(call({"inspect", corpus(), "--tokens=6:11", "--split=train"}).out, "there\n");
  const auto window = nlohmann::json::parse(call({"inspect", "--tokens", "0:2", "--json", corpus()}).out);
  EXPECT_EQ(window["ids"], nlohmann::json({'h', 'e'}));
  EXPECT_EQ(window["text"], "he");
  for (const std::string range : {"5", "5:2", "a:b", ":", "-1:2", "1.5:2"}) {
    EXPECT_THAT(faults_of([&] {
                  call({"inspect", corpus(), "--tokens=" + range});
                }),
                ElementsAre(HasSubstr("--tokens = " + range + ": must be A:B")));
  }
}

TEST_F(Commands, InspectOfATokenizer) {
  prepare();
  fs::create_directories(directory_ / "tokenizer");
  fs::copy_file(directory_ / "corpus/tokenizer.json", directory_ / "tokenizer/tokenizer.json");
  const auto summary =
      nlohmann::json::parse(call({"inspect", (directory_ / "tokenizer").string(), "--json"}).out);
  EXPECT_EQ(summary["kind"], "tokenizer");
  EXPECT_EQ(summary["vocabulary_size"], 257);
  EXPECT_EQ(summary["end_of_document"], 256);
}

TEST_F(Commands, VerifyListsWhatIsWrongAndReturnsOne) {
  prepare();
  EXPECT_EQ(call({"verify", corpus()}).code, kDone);
  const auto shard = directory_ / "corpus/train-00000.h5";
  fs::resize_file(shard, fs::file_size(shard) - 1);
  const auto outcome = call({"verify", corpus()});
  EXPECT_EQ(outcome.code, kFault);
  EXPECT_THAT(outcome.out, HasSubstr("train-00000.h5"));
}

TEST_F(Commands, APlaceThatIsNoneOfOurs) {
  EXPECT_THAT(faults_of([&] { (void)place_of(directory_); }), ElementsAre(HasSubstr("neither a corpus")));
  EXPECT_THAT(faults_of([&] { (void)place_of(directory_ / "nowhere"); }),
              ElementsAre(HasSubstr("no such directory")));
}

TEST_F(Commands, CheckpointsOfARunComeInTheOrderOfTheirSteps) {
  for (const std::string name : {"step-1000000", "step-000020", "step-000100", "other"}) {
    fs::create_directories(directory_ / "checkpoints" / name);
  }
  std::vector<std::string> names;
  for (const auto& checkpoint : checkpoints_of(directory_)) names.push_back(checkpoint.filename().string());
  EXPECT_THAT(names, ElementsAre("step-000020", "step-000100", "step-1000000"));
  EXPECT_EQ(place_of(directory_), Place::kRun);
}

TEST_F(Commands, PrepareNamesBadFlags) {
  const auto faults = [&](const std::string& flag) {
    return faults_of([&] { call({"prepare", "--input", "x", "--out", corpus(), flag}); });
  };
  EXPECT_THAT(faults("--valid-fraction=2"), ElementsAre("--valid-fraction = 2: must be a number, 0 ... 1"));
  EXPECT_THAT(faults("--split=random"), ElementsAre("--split = random: must be contiguous or documents"));
  EXPECT_THAT(faults("--shard-tokens=0"),
              ElementsAre(HasSubstr("--shard-tokens = 0: must be a whole number, 1 ... ")));
  EXPECT_THAT(faults("--tokeniser=bytes"),
              ElementsAre("--tokeniser: unknown flag; did you mean --tokenizer?"));
}

TEST_F(Commands, PartsOfAModelAddUpToItsParameters) {
  model::ModelOptions options;
  options.layers = 2;
  options.d_model = 4;
  options.d_ffn = 6;
  options.seq_len = 5;
  std::int64_t total = 0;
  for (const auto& part : model_parts(options, 7)) total += part.parameters;
  // embedding 7 x 4; a block: norm 2 x 4, expand 6 x 4 + 6, gate norm 2 x 3, spatial 5 x 5 + 5, contract 4 x
  // 3 + 4; the last norm 2 x 4
  EXPECT_EQ(total, 28 + 2 * (8 + 30 + 6 + 30 + 16) + 8);
}

class InspectModel : public Commands {
 protected:
  /// Two layers of d 4, f 6 (a gate of 3), n 5, seven ids, three sequences at once.
  std::string file(const std::string& more = "") {
    const auto path = (directory_ / "model.ini").string();
    std::ofstream(path) << "[model]\nlayers = 2\nd_model = 4\nd_ffn = 6\nseq_len = 5\n" << more;
    return path;
  }
  nlohmann::json summary(const std::vector<std::string>& more = {}, const std::string& settings = "") {
    std::vector<std::string> words{"inspect", "--model", file(settings), "--vocabulary=7", "--json"};
    words.insert(words.end(), more.begin(), more.end());
    return nlohmann::json::parse(call(words).out);
  }
};

TEST_F(InspectModel, CountsParametersByWhatTheyAreOf) {
  const auto found = summary();
  EXPECT_EQ(found["parameters"], 28 + 2 * (8 + 30 + 6 + 30 + 16) + 8);
  EXPECT_EQ(found["parameters_without_embeddings"], 2 * (8 + 30 + 6 + 30 + 16) + 8);
  EXPECT_EQ(found["parameters_without_spatial_weights"], 28 + 2 * (8 + 30 + 6 + 5 + 16) + 8);
  const auto mixer = summary({}, "kind = mixer\ncausal = false\nd_spatial = 2\npositions = learned\n");
  const auto all = mixer["parameters"].get<std::int64_t>();
  EXPECT_EQ(mixer["parameters_without_embeddings"], all - 28 - 20);
  EXPECT_EQ(mixer["parameters_without_spatial_weights"], all - 2 * (2 * 5 + 5 * 2));
}

/// Forward of five tokens, multiplications and additions apart: in each of two layers 24 and 12 weights a
/// token, and 1 + ... + 5 pairs of 3 channels; a head of 28 weights for the tokens that are predicted.
TEST_F(InspectModel, CountsFlopsByTheObjective) {
  const auto causal = summary();
  const double forward = 2 * (2 * (5 * (24 + 12) + 15 * 3) + 5 * 28);
  EXPECT_DOUBLE_EQ(causal["forward_flops_per_sequence"].get<double>(), forward);
  EXPECT_DOUBLE_EQ(causal["flops_per_sequence"].get<double>(), 3 * forward);
  EXPECT_DOUBLE_EQ(causal["flops_per_token"].get<double>() * 5, 3 * forward);
  EXPECT_DOUBLE_EQ(causal["executed_flops_per_sequence"].get<double>(), 3 * (forward + 2 * 2 * 10 * 3));
  EXPECT_EQ(causal["predicted_positions"], 5);
  const auto masked = summary({}, "causal = false\n[train]\nobjective = mlm\nmask_rate = 0.4\n");
  EXPECT_EQ(masked["predicted_positions"], 2);
  EXPECT_DOUBLE_EQ(masked["forward_flops_per_sequence"].get<double>(),
                   2 * (2 * (5 * (24 + 12) + 25 * 3) + 2 * 28));
}

TEST_F(InspectModel, EstimatesMemoryByTheFileAndTheFlagsOverIt) {
  const std::string settings = "[train]\nmicro_batch = 3\nrecompute = block\n";
  const auto found = summary({}, settings);
  EXPECT_EQ(found["rank"]["device"], "cpu");
  EXPECT_EQ(found["rank"]["sequences_at_once"], 3);
  const auto& memory = found["memory_bytes"];
  // Tensors begin at multiples of 32 elements, buckets are whole slices of 1024.
  EXPECT_EQ(memory["parameters"], 4 * 1024);
  EXPECT_EQ(memory["gradients"], 4 * 1024);
  EXPECT_EQ(memory["optimizer"], 2 * 4 * 1024);
  // The stream before two blocks and the last norm, and the mean and deviation of that one, of fused blocks
  // each.
  const int norms = kernels::host::has_passes() ? 3 : 1;
  EXPECT_EQ(memory["activations"], 15 * 4 * (3 * 4 + norms * 2));
  std::int64_t sum = 0;
  for (const std::string part : {"parameters", "gradients", "optimizer", "activations", "passing"})
    sum += memory[part].get<std::int64_t>();
  EXPECT_EQ(memory["total"], sum);
  const auto other =
      summary({"--batch=1", "--precision=bf16", "--recompute=none", "--zero=1", "--ranks=2"}, settings);
  EXPECT_EQ(other["rank"]["device"], "cuda");
  EXPECT_EQ(other["rank"]["sequences_at_once"], 1);
  EXPECT_EQ(other["rank"]["recompute"], "none");
  // Of two slices of 1024 this rank has one exactly, and both rounded to two bytes.
  EXPECT_EQ(other["memory_bytes"]["parameters"], 4 * 1024 + 2 * 2048);
  EXPECT_EQ(other["memory_bytes"]["gradients"], 4 * 2048);
  EXPECT_EQ(other["memory_bytes"]["optimizer"], 2 * 4 * 1024);
}

TEST_F(InspectModel, SaysWhichSequencesFitByHowManyRanksShareThem) {
  train::RunOptions options =
      parse_partial_options("", "defaults", {"--model.layers=1", "--model.d_model=64", "--model.d_ffn=128"});
  constexpr std::int64_t kMemory = std::int64_t{200} << 20;
  const FitTable table = fit_table(options, 300, 1, kMemory);
  ASSERT_EQ(table.ways.size(), 7U) << "one rank; two, four and eight, with W whole and by rows";
  EXPECT_EQ(table.ways[2].name(), "sp 2 ring");
  EXPECT_EQ(table.rows.front().positions, 512);
  for (std::size_t way = 0; way < table.ways.size(); ++way) {
    const auto bytes = [&](std::int64_t positions) {
      train::RunOptions at = options;
      at.model.seq_len = positions;
      at.parallel.sp = table.ways[way].sp;
      if (at.parallel.sp > 1) at.parallel.sp_mode = table.ways[way].mode;
      return rank_figures(at, 300, at.parallel.sp).memory.total();
    };
    EXPECT_EQ(table.rows[0].bytes[way], bytes(512));
    EXPECT_LE(bytes(table.largest[way]), kMemory);
    EXPECT_GT(bytes(table.largest[way] + 128), kMemory);
  }
  EXPECT_GT(table.largest[2], table.largest[1]) << "rows of W alone";
  EXPECT_GT(table.largest[1], table.largest[0]) << "activations of some positions alone";
  EXPECT_THAT(fit_text(table), HasSubstr("sp 8 ring"));
  options.model.kind = "transformer";
  EXPECT_EQ(fit_table(options, 300, 1, kMemory).ways.back().mode, "rowshard");
}

TEST_F(InspectModel, RefusesRanksThatCannotShare) {
  const auto faults = [&](const std::vector<std::string>& words) {
    return faults_of([&] {
      std::vector<std::string> all{"inspect", "--model", file()};
      all.insert(all.end(), words.begin(), words.end());
      call(all);
    });
  };
  EXPECT_THAT(faults({"--sp=2", "--ranks=3"}),
              ElementsAre(HasSubstr("parallel.sp = 2: must divide the ranks")));
  const auto fit =
      nlohmann::json::parse(call({"inspect", "--model", file(), "--memory=1", "--json"}).out)["fit"];
  EXPECT_EQ(fit["memory"], std::int64_t{1} << 30);
  EXPECT_EQ(fit["ways"][2]["sp_mode"], "ring");
  EXPECT_EQ(fit["ways"][2]["memory_by_n"][0]["n"], 512);
  EXPECT_THAT(faults({"--memory=none"}), ElementsAre(HasSubstr("--memory")));
  EXPECT_EQ(
      nlohmann::json::parse(call({"inspect", "--model", file(), "--sp=2", "--json"}).out)["rank"]["ranks"],
      2);
}

TEST_F(InspectModel, PrintsLinesThatAPersonReads) {
  const auto text = call({"inspect", "--model", file()}).out;
  EXPECT_THAT(text, HasSubstr("parameters without embeddings"));
  EXPECT_THAT(text, HasSubstr("  sequences at once                   8\n"));
  EXPECT_THAT(text, HasSubstr("memory, estimated\n"));
  EXPECT_THAT(text, HasSubstr("  optimizer                         16 KiB\n"));
}

TEST_F(InspectModel, NamesBadFlags) {
  const auto faults = [&](const std::vector<std::string>& more, const std::string& settings = "") {
    return faults_of([&] { summary(more, settings); });
  };
  EXPECT_THAT(faults({"--batch=0"}), ElementsAre(HasSubstr("--batch = 0: must be a whole number, 1 ... ")));
  EXPECT_THAT(faults({"--precision=fp16"}),
              ElementsAre("--precision = fp16: must be fp32 or tf32 or bf16 or fp8 or fp64"));
  EXPECT_THAT(faults({"--precision=bf16", "--device=cpu"}),
              ElementsAre(HasSubstr("bf16 needs a GPU; allowed on the CPU are fp32 and fp64")));
  EXPECT_THAT(
      faults({"--recompute=gate"}, "kind = mixer\ncausal = false\n"),
      ElementsAre("train.recompute = gate: model.kind = mixer has no gate; allowed are none and block"));
  EXPECT_THAT(faults({}, "d_modle = 4\n"), ElementsAre(HasSubstr("did you mean model.d_model?")));
}

}  // namespace
}  // namespace sluice::cli
