#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <sstream>

#include "tests/unit/cli/faults.h"
#include "trainer/cli/command.h"
#include "trainer/cli/option_table.h"
#include "trainer/cli/study_file.h"
#include "trainer/cli/version.h"

namespace sluice::cli {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::MatchesRegex;

const std::filesystem::path kSource = SLUICE_SOURCE_DIR;

std::string content(const std::filesystem::path& file) {
  std::ostringstream text;
  text << std::ifstream(file).rdbuf();
  return text.str();
}

std::vector<std::string> dispatch_faults(const std::vector<std::string>& words,
                                         parallel::Communicator& world) {
  return faults_of([&] { (void)dispatch(words, world); });
}

TEST(Reference, TheCommittedPageIsWhatTheProgramPrints) {
  EXPECT_TRUE(content(kSource / "docs/reference.md") == reference_markdown())
      << "docs/reference.md is out of date: build/release/sluice reference > docs/reference.md";
}

TEST(Reference, NamesEveryCommandKeyAndExitCode) {
  const auto page = reference_markdown();
  for (const auto& command : commands()) {
    EXPECT_THAT(page, HasSubstr("### sluice " + command.name + "\n"));
    EXPECT_THAT(page, HasSubstr(command.help));
    EXPECT_FALSE(command.help.empty()) << command.name;
    EXPECT_FALSE(command.summary.empty()) << command.name;
  }
  for (const auto& row : option_table()) EXPECT_THAT(page, HasSubstr("`" + row.key + "`"));
  for (const int code : {kDone, kFault, kBadInput, kStoppedEarly}) {
    EXPECT_THAT(page, HasSubstr("| " + std::to_string(code) + " | "));
  }
}

TEST(Dispatch, AnUnknownCommandGetsTheNearest) {
  const auto world = parallel::make_local_communicator();
  EXPECT_THAT(dispatch_faults({"prepar"}, *world),
              ElementsAre("prepar: unknown command; did you mean prepare?"));
  EXPECT_THAT(dispatch_faults({"--versoin"}, *world), ElementsAre(HasSubstr("did you mean --version?")));
  EXPECT_THAT(dispatch_faults({"zzz"}, *world), ElementsAre(HasSubstr("`sluice --help` lists them")));
  EXPECT_THAT(dispatch_faults({}, *world), ElementsAre(HasSubstr("no command given")));
}

TEST(Dispatch, HelpIsPrintedAndIsNoFault) {
  const auto world = parallel::make_local_communicator();
  for (const auto& command : commands()) {
    testing::internal::CaptureStdout();
    EXPECT_EQ(dispatch({command.name, "--help"}, *world), kDone);
    EXPECT_THAT(testing::internal::GetCapturedStdout(), HasSubstr(command.help)) << command.name;
  }
  testing::internal::CaptureStdout();
  EXPECT_EQ(dispatch({"--help"}, *world), kDone);
  const auto help = testing::internal::GetCapturedStdout();
  for (const auto& command : commands()) EXPECT_THAT(help, HasSubstr(command.name + " "));
}

TEST(Version, NamesTheProgramAndEveryLibrary) {
  const auto text = version_text();
  EXPECT_THAT(text,
              HasSubstr(std::string("sluice     ") + program_version() + " (commit " + program_commit()));
  EXPECT_THAT(text, HasSubstr("LibTorch   2."));
  for (const std::string name : {"MPI ", "HDF5 ", "Boost ", "CUDA ", "NCCL "})
    EXPECT_THAT(text, HasSubstr("\n" + name));
}

TEST(Configs, EveryCommittedSettingsFileIsValid) {
  std::int64_t files = 0;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(kSource / "configs")) {
    const auto folder = entry.path().parent_path().filename();
    const bool of_a_run = folder != "clusters" && folder != "studies" && folder != "rates";
    if (entry.path().extension() != ".ini" || !of_a_run) continue;
    ++files;
    std::vector<std::string> words{"--config", entry.path().string(), "--run.dir=r", "--data.corpus=c"};
    if (entry.path().lexically_relative(kSource / "configs").begin()->string() == "models")
      words.push_back("--train.steps=1000");
    EXPECT_THAT(faults_of([&] { (void)parse_run_options(words); }), ElementsAre()) << entry.path();
  }
  EXPECT_GE(files, 1);
}

TEST(Configs, EveryCommittedStudyIsValid) {
  const auto here = std::filesystem::current_path();
  std::filesystem::current_path(kSource);  // the settings files that they name
  std::int64_t files = 0;
  for (const auto& entry : std::filesystem::directory_iterator("configs/studies")) {
    if (entry.path().extension() != ".ini") continue;
    ++files;
    EXPECT_THAT(faults_of([&] { (void)parse_study(content(entry.path()), entry.path().string()); }),
                ElementsAre());
  }
  std::filesystem::current_path(here);
  EXPECT_GE(files, 1);
}

}  // namespace
}  // namespace sluice::cli
