#include "trainer/study/study_files.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/unit/study/temporary_study.h"
#include "trainer/train/errors.h"

namespace sluice::study {
namespace {

using testing::HasSubstr;

std::string fault_of(const std::filesystem::path& directory) {
  try {
    (void)read_study(directory);
  } catch (const train::InputError& error) {
    return error.what();
  }
  return "no exception";
}

TEST(StudyFiles, ReadsRunsAndTablesAndFindsAStudyThatWasMoved) {
  TemporaryStudy study;
  study.put_study("loss",
                  {TemporaryStudy::run("a", "gmlp", "trunk", "done"),
                   TemporaryStudy::run("b", "gmlp", "branch", "failed", R"(,"parent":"a","reason":"why")")});
  study.put("runs/a/metrics.jsonl", "");
  study.put("points.csv", "family,loss\ngmlp,2\n");
  const StudyFiles files = read_study(study.path());
  EXPECT_EQ(files.name, "tiny <study>");
  EXPECT_EQ(files.kind, "loss");
  ASSERT_EQ(files.runs.size(), 2U);
  EXPECT_EQ(files.runs[0].directory, study.path() / "runs" / "a");
  EXPECT_EQ(files.runs[1].directory, "elsewhere/b");
  EXPECT_EQ(files.runs[1].parent, "a");
  EXPECT_EQ(files.runs[1].reason, "why");
  EXPECT_EQ(files.runs[0].params, 1e6);
  EXPECT_TRUE(files.runs[0].finished());
  EXPECT_FALSE(files.runs[1].finished());
  ASSERT_EQ(files.runs[0].values.size(), 1U);
  EXPECT_EQ(files.runs[0].values[0].value, "0.001");
  EXPECT_TRUE(files.points);
  EXPECT_FALSE(files.speed || files.rates);
}

TEST(StudyFiles, SaysWhatIsWrongWithAStudy) {
  TemporaryStudy study;
  EXPECT_THAT(fault_of(study.path()), HasSubstr("it has no study.json"));
  study.put("study.json", "{");
  EXPECT_THAT(fault_of(study.path()), HasSubstr("study.json: not a study"));
  study.put("study.json", R"({"format":"sluice-corpus","version":1})");
  EXPECT_THAT(fault_of(study.path()), HasSubstr("must be \"sluice-study\""));
  study.put("study.json", R"({"format":"sluice-study","version":2})");
  EXPECT_THAT(fault_of(study.path()), HasSubstr("version 2: this program reads up to version 1"));
  study.put("study.json",
            R"({"format":"sluice-study","version":1,"name":"a","kind":"loss","runs":[{"id":"x"}]})");
  EXPECT_THAT(fault_of(study.path()), HasSubstr("'status' not found"));
}

}  // namespace
}  // namespace sluice::study
