#include "trainer/study/report.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "tests/unit/study/markup.h"
#include "tests/unit/study/temporary_run.h"
#include "trainer/train/errors.h"

namespace sluice::study {
namespace {

using testing::HasSubstr;
using testing::Not;

std::string metrics(int steps) {
  std::string text;
  for (int step = 1; step <= steps; ++step) {
    text += fmt::format(
        R"({{"kind":"train","step":{},"tokens":{},"loss":{},"lr":0.001,"grad_norm":1.5,"tokens_per_s":10000,"step_s":0.8192,)"
        R"("data_wait_s":0.01,"comm_exposed_s":0.05}})"
        "\n",
        step, step * 8192, 2.0 + std::exp(-step / 10.0));
    if (step % 10 == 0)
      text += fmt::format(R"({{"kind":"valid","step":{},"tokens":{},"loss":2.5}})"
                          "\n",
                          step, step * 8192);
  }
  return text;
}

class Report : public testing::Test {
 protected:
  void SetUp() override {
    run_.write("metrics.jsonl", metrics(40) + R"({"kind":"train","st)");
    run_.write("resolved.ini",
               "# sluice 0.1.0\n# LibTorch & co\n[run]\ndir = runs/a<b\n[model]\nkind = gmlp\nlayers = 4\n");
    run_.write("sample.txt", "if (a < b && c > d) \"</pre><script>alert(1)</script>\"");
    run_.write("eval.json",
               R"({"split":"valid","tokens":1000,"loss":1.5,"perplexity":4.4817,"bits_per_byte":2.164})");
  }
  [[nodiscard]] std::string html() const { return report_html(run_.path()); }

  TemporaryRun run_;
};

TEST_F(Report, HasEverySection) {
  const std::string page = html();
  for (const char* title : {"Loss", "Speed", "Where the time went", "Learning rate", "Gradient norm",
                            "Sample", "Evaluation", "Settings", "Build"})
    EXPECT_THAT(page, HasSubstr(fmt::format("<h2>{}</h2>", title)));
  for (const char* label : {">loss (nats per token)<", ">tokens seen (thousands)<", ">tokens/s (thousands)<",
                            ">share of a step's time (%)<", ">step<"})
    EXPECT_THAT(page, HasSubstr(label));
}

TEST_F(Report, ShowsTheFinalNumbersOfTheEvaluation) {
  const std::string page = html();
  EXPECT_THAT(page, HasSubstr("<dt>valid loss</dt><dd>1.5000"));
  EXPECT_THAT(page, HasSubstr("<dt>perplexity</dt><dd>4.482"));
  EXPECT_THAT(page, HasSubstr("<dt>bits per byte</dt><dd>2.1640"));
  EXPECT_THAT(page, HasSubstr("<dt>tokens seen</dt><dd>328 k"));
  EXPECT_THAT(page, HasSubstr("<dt>time in steps</dt><dd>32.8 s"));
}

TEST_F(Report, WithoutAnEvaluationTheLastValidationStandsAndEmptySectionsAreLeftOut) {
  for (const char* file : {"eval.json", "sample.txt", "resolved.ini"})
    std::filesystem::remove(run_.path() / file);
  const std::string page = html();
  EXPECT_THAT(page, HasSubstr("<dt>valid loss</dt><dd>2.5000"));
  for (const char* title : {"Sample", "Evaluation", "Settings", "Build"})
    EXPECT_THAT(page, Not(HasSubstr(fmt::format("<h2>{}</h2>", title))));
}

TEST_F(Report, OfAMixtureShowsEachCorpusAndTheirMean) {
  run_.write("metrics.jsonl",
             metrics(5) +
                 R"({"kind":"valid","step":5,"tokens":40960,"loss":2.25,"corpora":[)"
                 R"({"corpus":"a<b","share":0.75,"loss":2.0},{"corpus":"c","share":0.25,"loss":3.0}]})"
                 "\n");
  std::filesystem::remove(run_.path() / "eval.json");
  const std::string page = html();
  EXPECT_THAT(page, HasSubstr("<dt>valid loss</dt><dd>2.2500"));
  EXPECT_THAT(page, HasSubstr("step 5, mean of the corpora by share"));
  EXPECT_THAT(
      page,
      HasSubstr("<td>a&lt;b</td><td class=\"number\">75.00\u00A0%</td><td class=\"number\">2.0000</td>"));
  EXPECT_THAT(page,
              HasSubstr("<td>c</td><td class=\"number\">25.00\u00A0%</td><td class=\"number\">3.0000</td>"));
  EXPECT_THAT(page, HasSubstr("<td>mean by share</td>"));
  EXPECT_THAT(page, HasSubstr("valid, a&lt;b"));
  run_.write("eval.json", R"({"corpus":"corpora/c","split":"valid","loss":3.5})");
  EXPECT_THAT(html(), HasSubstr("whole split of corpora/c"));
}

TEST_F(Report, EscapesWhatTheRunSays) {
  const std::string page = html();
  EXPECT_THAT(page, Not(HasSubstr("<script>")));
  EXPECT_THAT(page, HasSubstr("if (a &lt; b &amp;&amp; c &gt; d) &quot;&lt;/pre&gt;&lt;script&gt;"));
  EXPECT_THAT(page, HasSubstr("runs/a&lt;b"));
  EXPECT_THAT(page, HasSubstr("LibTorch &amp; co"));
}

TEST_F(Report, IsOneFileThatNeedsNoOther) { expect_self_contained(html()); }

TEST_F(Report, IsWellFormed) { expect_well_formed(html()); }

TEST_F(Report, ColoursFollowThePage) { expect_both_schemes(html()); }

TEST_F(Report, DrawsOtherProgramsCurvesOverItsOwnInItsOwnUnit) {
  run_.write("other run.csv", "tokens,loss,note\n100000,3.25,a\n200000,2.75,b\n");
  const Page page = run_page(run_.path(), {read_overlay(run_.path() / "other run.csv")});
  const auto written = write_page(page, "report");
  EXPECT_THAT(written.html, HasSubstr("</span>other run</li>"));
  ASSERT_EQ(written.files[0].name, "loss.csv");
  EXPECT_THAT(written.files[0].content, HasSubstr("other run,100,3.25\nother run,200,2.75\n"));
  run_.write("bad.csv", "tokens,perplexity\n1,2\n");
  EXPECT_THROW((void)read_overlay(run_.path() / "bad.csv"), train::InputError);
}

TEST_F(Report, SaysHowToGetGnuplotWhereItIsMissing) {
  try {
    (void)report_html(run_.path(), {.gnuplot = "no-such-gnuplot"});
    FAIL() << "no exception";
  } catch (const std::runtime_error& error) {
    EXPECT_THAT(error.what(),
                testing::AllOf(HasSubstr("no-such-gnuplot"), HasSubstr("apt-get install gnuplot-nox")));
  }
}

TEST_F(Report, GivesTheDrawingProgramsOwnWordsWhereItFails) {
  try {
    (void)report_html(run_.path(), {.gnuplot = "false"});
    FAIL() << "no exception";
  } catch (const std::runtime_error& error) {
    EXPECT_THAT(error.what(), HasSubstr("false failed"));
  }
}

TEST_F(Report, RefusesWhatIsNoRunAndARunWithoutASingleStep) {
  EXPECT_THROW((void)report_html(run_.path() / "nowhere"), train::InputError);
  run_.write("metrics.jsonl", "");
  EXPECT_THROW((void)report_html(run_.path()), train::InputError);
}

TEST_F(Report, DrawsARunOfOneStepAndOneWhoseLossIsNotFinite) {
  run_.write("metrics.jsonl", metrics(1));
  EXPECT_THAT(html(), HasSubstr("<h2>Loss</h2>"));
  run_.write("metrics.jsonl",
             metrics(5) +
                 R"({"kind":"train","step":6,"tokens":49152,"loss":null,"lr":0.001,"grad_norm":null,)"
                 R"("tokens_per_s":10000,"step_s":0.8,"data_wait_s":0,"comm_exposed_s":0})"
                 "\n");
  EXPECT_THAT(html(), HasSubstr("<h2>Loss</h2>"));
}

}  // namespace
}  // namespace sluice::study
