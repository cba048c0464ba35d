#include "trainer/cli/study_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "tests/unit/cli/faults.h"
#include "trainer/cli/study_job.h"

namespace sluice::cli {
namespace {

using study::Values;
using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Pair;
using testing::UnorderedElementsAre;

const std::string kLoss = "[study]\nname = a\nkind = loss\n[budgets]\ntokens = 1e6, 2e6\n";

study::StudySpec read(const std::string& text) { return parse_study(text, "a.ini"); }
std::vector<std::string> study_faults(const std::string& text) {
  return faults_of([&] { (void)read(text); });
}

TEST(StudyFile, TheLeastThatIsAStudy) {
  const auto spec = read(kLoss);
  EXPECT_EQ(spec.dir, "runs/a");
  EXPECT_EQ(spec.jobs, 1);
  EXPECT_THAT(spec.seeds, ElementsAre(1));
  EXPECT_THAT(spec.budgets.amounts, ElementsAre(1e6, 2e6));
  ASSERT_EQ(spec.families.size(), 1U);
  ASSERT_EQ(spec.sizes.size(), 1U);
  EXPECT_THAT(spec.tune.values, IsEmpty());
}

TEST(StudyFile, AValueIsKeptAsResolvedIniHasItHoweverItIsWritten) {
  EXPECT_EQ(read(kLoss + "[settings]\noptim.lr = 1e-3\n").settings,
            read(kLoss + "[settings]\noptim.lr = 0.0010\n").settings);
  EXPECT_THAT(read(kLoss + "[settings]\ntrain.global_batch = 1e3\n").settings,
              ElementsAre(Pair("train.global_batch", "1000")));
  EXPECT_THAT(read(kLoss + "[axis]\noptim.weight_decay = 0.10; 0\n").axes.front().values,
              ElementsAre("0.1", "0"));
}

TEST(StudyFile, FamiliesAndSizesAreThereByTheirHeadersAndMeetInSectionsOfTheirOwn) {
  const auto spec =
      read(kLoss +
           "[family.gmlp]\n[family.transformer]\nmodel.kind = transformer\n[size.s]\n[size.m]\n"
           "model.layers = 4\nseeds = 1..3\nbudgets = 5e5\n[family.gmlp.m]\nmodel.d_ffn = 96\n");
  ASSERT_EQ(spec.families.size(), 2U);
  EXPECT_EQ(spec.families[0].name, "gmlp");
  EXPECT_THAT(spec.families[1].values, ElementsAre(Pair("model.kind", "transformer")));
  ASSERT_EQ(spec.sizes.size(), 2U);
  EXPECT_THAT(spec.sizes[0].values, IsEmpty());
  EXPECT_THAT(spec.sizes[1].values, ElementsAre(Pair("model.layers", "4")));
  EXPECT_THAT(spec.sizes[1].seeds, ElementsAre(1, 2, 3));
  EXPECT_THAT(spec.sizes[1].budgets, ElementsAre(5e5));
  EXPECT_THAT(spec.sizes[1].of_family, UnorderedElementsAre(Pair("gmlp", Values{{"model.d_ffn", "96"}})));
}

TEST(StudyFile, SettingsFilesAreReadInOrderAndWhatStandsBesideThemWins) {
  const auto directory = std::filesystem::temp_directory_path() / "sluice_study_file_test";
  std::filesystem::create_directories(directory);
  std::ofstream(directory / "one.ini")
      << "[model]\nlayers = 2\nd_model = 32\n[train]\nsteps = 7\n[run]\nseed = 5\n";
  std::ofstream(directory / "two.ini") << "[model]\nd_model = 64\nd_ffn = 128\n";
  const auto files = (directory / "one.ini").string() + ", " + (directory / "two.ini").string();
  const auto spec =
      read(kLoss + "[settings]\nmodel.d_ffn = 256\nconfig = " + files + "\nmodel.seq_len = 16\n");
  EXPECT_THAT(spec.settings, UnorderedElementsAre(Pair("model.layers", "2"), Pair("model.d_model", "64"),
                                                  Pair("model.d_ffn", "256"), Pair("model.seq_len", "16")))
      << "and what the study itself gives to its runs is passed over";
  std::ofstream(directory / "two.ini") << "[model]\nlayer = 3\n";
  EXPECT_THAT(
      study_faults(kLoss + "[settings]\nconfig = " + files + "\n"),
      ElementsAre(testing::AllOf(HasSubstr("did you mean model.layers?"), HasSubstr("two.ini, line 2"))));
  std::filesystem::remove_all(directory);
  EXPECT_THAT(study_faults(kLoss + "[settings]\nconfig = " + files + "\n"),
              testing::Each(HasSubstr("cannot be read")));
}

TEST(StudyFile, FaultsHaveTheirLinesAndComeTogether) {
  const auto faults = study_faults(
      "[study]\nname = a/b\nkind = loss\nkind = loss\njob = 2\n[settings]\ntrain.steps = 9\n"
      "[size.s]\ntoken = 5\n[axis]\noptim.lr = 1, -1\n[tune]\nkey = optim.kind\n");
  EXPECT_THAT(faults, Contains(HasSubstr("study.name = a/b: must be a name without /")));
  EXPECT_THAT(faults, Contains(HasSubstr("study.kind: given twice, first in line 3 (a.ini, line 4)")));
  EXPECT_THAT(faults,
              Contains(HasSubstr("study.job: unknown key; did you mean study.jobs? (a.ini, line 5)")));
  EXPECT_THAT(faults, Contains(HasSubstr("train.steps: a study gives it to its runs, from [budgets]")));
  EXPECT_THAT(faults, Contains(HasSubstr("size.s.token = 5: must be config, seeds, budgets or section.key")));
  EXPECT_THAT(faults, Contains(HasSubstr("optim.lr = -1: must be > 0 (a.ini, line 11)")));
  EXPECT_THAT(faults,
              Contains(HasSubstr("tune.key = optim.kind: must be a setting of a run that is a number")));
  EXPECT_THAT(faults, Contains(HasSubstr("[budgets]: not given")));
}

TEST(StudyFile, WhatDoesNotGoTogether) {
  EXPECT_THAT(study_faults(kLoss + "[speed]\nranks = 2\n"),
              ElementsAre(HasSubstr("speed.ranks: is not for study.kind = loss")));
  EXPECT_THAT(study_faults("[study]\nname = a\nkind = speed\njobs = 2\n"),
              ElementsAre(HasSubstr("study.jobs = 2: must be 1 for a speed study")));
  EXPECT_THAT(study_faults(kLoss + "flops = 1e15\n"), ElementsAre(HasSubstr("in another unit already")));
  EXPECT_THAT(study_faults(kLoss + "[size.s]\n[size.m]\n[tune]\nvalues = 1,2,3\nsizes = s\n"),
              ElementsAre(HasSubstr("needs two or more sizes")));
  EXPECT_THAT(study_faults(kLoss + "[size.s]\n[tune]\nvalues = 1,2,3\nsizes = x\n"),
              ElementsAre(HasSubstr("there is no size x; there are s")));
  EXPECT_THAT(study_faults(kLoss + "[axis]\noptim.lr = 1,2\n[tune]\nvalues = 1,2,3\n"),
              ElementsAre(HasSubstr("axis.optim.lr: [tune] tunes it")));
}

TEST(StudyJob, TheReasonIsTheProgramsOwnLastLineWhateverALauncherSaysAfterIt) {
  EXPECT_EQ(last_words(1, "step 1\nsluice: rank 0: no memory\n-----\nmpirun detected ...\n"),
            "exit code 1: sluice: rank 0: no memory");
  EXPECT_EQ(last_words(137, "step 1\nstep 2\n---\n\n"), "signal 9: step 2");
  EXPECT_EQ(last_words(1, ""), "exit code 1");
}

TEST(StudyJob, WordsReachTheShellAsTheyAre) {
  EXPECT_EQ(shell_text({"a b", "it's", "$x"}), R"('a b' 'it'\''s' '$x')");
}

}  // namespace
}  // namespace sluice::cli
