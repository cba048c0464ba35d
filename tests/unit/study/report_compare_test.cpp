#include "trainer/study/report_compare.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/unit/study/markup.h"
#include "tests/unit/study/temporary_study.h"
#include "trainer/train/errors.h"

namespace sluice::study {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

std::string html_of(const std::filesystem::path& a, const std::filesystem::path& b) {
  const std::string html = write_page(compare_page(a, b, {}), "report").html;
  expect_well_formed(html);
  expect_self_contained(html);
  return html;
}

TEST(Compare, RunsPartAtAStepAndByAnAmount) {
  TemporaryStudy study;
  study.put_run("a", 1, {4.0, 3.0, 2.0, 1.5});
  study.put_run("b", 1, {4.0, 3.0, 2.25, 1.0});
  const std::string html = html_of(study.path() / "a", study.path() / "b");
  EXPECT_THAT(html, HasSubstr("<h1>a and b</h1>"));
  EXPECT_THAT(html, HasSubstr("<dt>losses part</dt><dd>step 3<div class=\"note\">by 0.25 nats per token"));
  EXPECT_THAT(table_row(html, "first that differs at all"),
              ElementsAre("first that differs at all", "3", "2", "2.25", "0.25"));
  EXPECT_THAT(table_row(html, "largest difference"),
              ElementsAre("largest difference", "4", "1.5", "1", "-0.5"));
}

TEST(Compare, EqualRunsAreSaidToBeEqual) {
  TemporaryStudy study;
  study.put_run("a", 1, {4.0, 3.0});
  study.put_run("b", 1, {4.0, 3.0});
  EXPECT_THAT(html_of(study.path() / "a", study.path() / "b"), HasSubstr("equal in all 2 common steps"));
  study.put_run("c", 3, {4.0});
  EXPECT_THAT(html_of(study.path() / "a", study.path() / "c"), HasSubstr("no step in common"));
}

TEST(Compare, StudiesAreComparedCellByCell) {
  TemporaryStudy a;
  TemporaryStudy b;
  const std::string columns = "family,model,mode,ranks,dp,sp,global_batch,tokens_per_s,run\n";
  const auto run = TemporaryStudy::run("r1", "gmlp", "run", "done");
  a.put_study("loss", {run, TemporaryStudy::run("r2", "gmlp", "run", "done")});
  b.put_study("loss", {run});
  a.put("speed.csv", columns + "gmlp,base,strong,1,1,1,64,1000,x\ngmlp,base,strong,2,2,1,64,1500,y\n");
  b.put("speed.csv", columns + "gmlp,base,strong,1,1,1,64,1250,z\ngmlp,base,strong,2,2,1,128,1500,y\n");
  a.put("points.csv", "family,params,tokens,loss,run\ngmlp,10,10,3.5,r1\n");
  b.put("points.csv", "family,params,tokens,loss,run\ngmlp,10,10,3.25,r1\n");
  a.put_run("runs/r1", 1, {4.0, 3.0});
  b.put_run("runs/r1", 1, {4.0, 2.5});
  const std::string html = html_of(a.path(), b.path());
  EXPECT_THAT(table_row(html, "gmlp base strong, 1 x 1"),
              ElementsAre("gmlp base strong, 1 x 1", "1", "1\u202F000", "1\u202F250", "1.250"));
  EXPECT_TRUE(table_row(html, "gmlp base strong, 2 x 1").empty());  // another batch
  EXPECT_THAT(table_row(html, "gmlp r1"),
              ElementsAre("gmlp r1", "3.5000", "3.2500", "-0.2500", "step 2, by -0.5"));
  EXPECT_THAT(table_row(html, "gmlp r2"), ElementsAre("gmlp r2", "tiny &lt;study&gt; (first)", "done"));
}

TEST(Compare, ARunBesideAStudyIsRefused) {
  TemporaryStudy study;
  study.put_study("loss", {});
  study.put_run("a", 1, {4.0});
  EXPECT_THROW((void)compare_page(study.path(), study.path() / "a", {}), train::InputError);
}

}  // namespace
}  // namespace sluice::study
