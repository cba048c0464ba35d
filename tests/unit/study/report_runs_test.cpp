#include "trainer/study/report_runs.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/unit/study/markup.h"
#include "tests/unit/study/temporary_study.h"
#include "trainer/train/errors.h"

namespace sluice::study {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

class Runs : public testing::Test {
 protected:
  void SetUp() override {
    study_.put_run("one", 1, {4.0, 3.0}, "[optim]\nlr = 0.001\n");
    study_.put_run("two", 1, {4.0, 2.5, 2.0}, "[optim]\nlr = 0.002\n");
    study_.put("two/eval.json", R"({"loss":1.5,"bits_per_byte":2.25})");
  }
  TemporaryStudy study_;
};

TEST_F(Runs, StandInOneTableAndOneChart) {
  const auto written = write_page(runs_page({study_.path() / "one", study_.path() / "two"}, {}), "report");
  expect_well_formed(written.html);
  expect_self_contained(written.html);
  EXPECT_THAT(written.html, HasSubstr("<h1>2 runs</h1>"));
  EXPECT_THAT(table_row(written.html, "one"), ElementsAre("one", "2", "200", "3.5000", "\u2013", "\u2013",
                                                          "\u2013", "200", "\u2013", "1.0 s"));
  EXPECT_THAT(table_row(written.html, "two"), ElementsAre("two", "3", "300", "2.2500", "1.5000", "4.482",
                                                          "2.2500", "200", "\u2013", "1.5 s"));
  EXPECT_THAT(table_row(written.html, "optim.lr"), ElementsAre("optim.lr", "0.001", "0.002"));
  for (const auto& file : written.files) {
    if (file.name != "loss-tokens.csv") continue;
    EXPECT_THAT(file.content, HasSubstr("one,200,3.5\n"));
    EXPECT_THAT(file.content, HasSubstr("two,300,2.25\n"));
  }
}

TEST_F(Runs, OfOneNameAreToldApartAndStudiesStandForTheirRuns) {
  study_.put_run("other/one", 1, {4.0});
  study_.put_study("loss", {TemporaryStudy::run("r1", "gmlp", "run", "done"),
                            TemporaryStudy::run("r2", "gmlp", "run", "waiting")});
  study_.put_run("runs/r1", 1, {4.0});
  const auto runs = read_runs({study_.path() / "one", study_.path() / "other/one", study_.path()});
  ASSERT_EQ(runs.size(), 3U);
  EXPECT_EQ(runs[0].name, study_.path().filename().string() + "/one");
  EXPECT_EQ(runs[1].name, "other/one");
  EXPECT_EQ(runs[2].name, "r1");
}

TEST_F(Runs, EachDirectoryThatIsNeitherIsNamed) {
  try {
    (void)read_runs({study_.path() / "one", study_.path() / "no", study_.path() / "none"});
    FAIL() << "no exception";
  } catch (const train::InputError& error) {
    EXPECT_EQ(error.faults().size(), 2U);
    EXPECT_THAT(error.what(), HasSubstr("neither a run nor a study"));
  }
}

}  // namespace
}  // namespace sluice::study
