#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "tests/unit/cli/faults.h"
#include "trainer/cli/command.h"
#include "trainer/cli/inspect_model.h"
#include "trainer/cli/place.h"

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

}  // namespace
}  // namespace sluice::cli
