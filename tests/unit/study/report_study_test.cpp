#include "trainer/study/report_study.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "tests/unit/study/markup.h"
#include "tests/unit/study/temporary_study.h"
#include "trainer/study/report_loss.h"
#include "trainer/train/errors.h"

namespace sluice::study {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;

const std::string& content_of(const WrittenPage& written, const std::string& name) {
  for (const auto& file : written.files)
    if (file.name == name) return file.content;
  throw std::out_of_range(name);
}

class SpeedStudy : public testing::Test {
 protected:
  void SetUp() override {
    study_.put_study("speed",
                     {TemporaryStudy::run("s1", "gmlp", "speed", "done"),
                      TemporaryStudy::run("s2", "gmlp", "speed", "done"),
                      TemporaryStudy::run("s4", "gmlp", "speed", "failed", R"(,"reason":"out of memory")"),
                      TemporaryStudy::run("w1", "gmlp", "speed", "done"),
                      TemporaryStudy::run("w2", "gmlp", "speed", "done")});
    study_.put(
        "speed.csv",
        "family,model,mode,device_model,ranks,dp,sp,global_batch,tokens_per_s,tokens_per_s_low,tokens_per_s_"
        "high,"
        "step_s,forward_s,backward_s,comm_exposed_s,data_wait_s,optimizer_s,mfu,hfu,power_w,energy_per_token_"
        "j,"
        "peak_memory_bytes,rank_step_s_min,rank_step_s_max,predicted_step_s,predicted_memory_bytes,run,"
        "reason\n"
        "gmlp,base,strong,H200,1,1,1,64,1000,900,1100,1.0,0.25,0.5,0,0.0625,0.125,0.4,0.5,500,0.5,1048576,1."
        "0,1.0,"
        "1.1,2097152,s1,\n"
        "gmlp,base,strong,H200,2,2,1,64,1600,1500,1700,0.625,0.125,0.25,0.125,0.0625,0.0625,0.32,0.4,400,0.5,"
        "1048576,0.5,0.625,0.5,1048576,s2,\n"
        "gmlp,base,strong,H200,4,4,1,64,,,,,,,,,,,,,,,,,,,s4,out of memory\n"
        "gmlp,base,weak,H200,1,1,1,16,1000,,,1.0,,,0,0,,,,,,,,,,,w1,\n"
        "gmlp,base,weak,H200,2,2,1,32,1900,,,1.05,,,0.05,0,,,,,,,,,,,w2,\n");
  }
  [[nodiscard]] WrittenPage written() const { return write_page(study_page(study_.path(), {}), "report"); }

  TemporaryStudy study_;
};

TEST_F(SpeedStudy, ItsTablesSayWhatWasComputedByHand) {
  const std::string html = written().html;
  EXPECT_THAT(html, HasSubstr("Speed study of Sluice · 5 runs · 4 done, 1 failed"));
  EXPECT_THAT(table_row(html, "strong", "2"),
              ElementsAre("strong", "2", "2 x 1", "64", "1\u202F600", "1\u202F500 to 1\u202F700", "625",
                          "1.600", "80.0 %", "0.2500"));
  EXPECT_THAT(table_row(html, "weak", "2"), testing::Contains("0.1000"));  // (2 - 1.9) / (2 - 1)
  EXPECT_THAT(html,
              HasSubstr("<dt>strong speed-up</dt><dd>1.60<div class=\"note\">2 ranks, efficiency 80.0 %"));
  EXPECT_THAT(html, HasSubstr("<dt>MFU</dt><dd>40.0 %"));
}

TEST_F(SpeedStudy, CausesAreStackedToTheWholeStep) {
  const auto page = written();
  EXPECT_EQ(content_of(page, "causes-1.csv"),
            "series,ranks,time of a step (ms)\n"
            "other,1,1000\nother,2,625\n"
            "data wait,1,937.5\ndata wait,2,625\n"
            "exposed communication,1,875\nexposed communication,2,562.5\n"
            "compute,1,875\ncompute,2,437.5\n");
  EXPECT_THAT(content_of(page, "causes.csv"),
              HasSubstr("strong,2,625,438,125,62.5,0,500 to 625,20.0 %\n"));  // spread: (0.625 - 0.5) / 0.625
}

TEST_F(SpeedStudy, PredictionsStandBesideWhatWasMeasuredWithTheirError) {
  const auto page = written();
  EXPECT_THAT(content_of(page, "predicted.csv"), HasSubstr("strong,1,1000,1100,10.0 %,1,2,100.0 %\n"));
  EXPECT_THAT(content_of(page, "predicted.csv"), HasSubstr("strong,2,625,500,-20.0 %,1,1,0.0 %\n"));
  EXPECT_THAT(page.html, HasSubstr("The largest of a step&#39;s time: 20.0 %."));
  // tokens/s as predicted: 1600 x 0.625 / 0.5
  EXPECT_THAT(content_of(page, "strong-tokens-per-s.csv"), HasSubstr("predicted,2,2000,"));
  EXPECT_THAT(content_of(page, "strong-tokens-per-s.csv"), HasSubstr("ideal,2,2000,"));
  EXPECT_THAT(content_of(page, "strong-tokens-per-s.csv"), HasSubstr("measured,2,1600,1500,1700\n"));
  EXPECT_THAT(content_of(page, "strong-efficiency.csv"), HasSubstr("measured,2,80\n"));
}

TEST_F(SpeedStudy, MissingCellsAreListedWithTheirReason) {
  const auto page = written();
  EXPECT_THAT(page.html, HasSubstr("Not measured: 1 of 5 cells."));
  EXPECT_THAT(table_row(page.html, "gmlp", "base"),
              ElementsAre("gmlp", "base", "strong", "4", "out of memory", "s4"));
  EXPECT_THAT(page.html, Not(HasSubstr("Failed and missing runs")));  // not twice
}

TEST_F(SpeedStudy, DeviceUseIsShownWhereItIsKnown) {
  const auto page = written();
  EXPECT_THAT(content_of(page, "device.csv"), HasSubstr("strong,2,H200,32.0 %,40.0 %,400,500,1\n"));
  EXPECT_THAT(content_of(page, "energy.csv"), HasSubstr("strong,1,500\n"));
  EXPECT_THAT(content_of(page, "mfu.csv"), HasSubstr("weak,1,\n"));
}

TEST_F(SpeedStudy, ThePageIsWellFormedInBothSchemesWithAxesLabelled) {
  const std::string html = written().html;
  expect_well_formed(html);
  expect_self_contained(html);
  expect_both_schemes(html);
  for (const char* label :
       {">ranks<", ">tokens/s, all ranks<", ">efficiency (%)<", ">speed-up<", ">time of a step (ms)<",
        ">MFU (% of the measured peak)<", ">energy per token (mJ)<"})
    EXPECT_THAT(html, HasSubstr(label));
  EXPECT_THAT(html, HasSubstr("tiny &lt;study&gt;"));
}

TEST_F(SpeedStudy, HasNoLossesToDrawACurveWith) {
  EXPECT_THROW((void)study_page(study_.path(), {{.label = "other", .tokens = {1}, .loss = {1}}}),
               train::InputError);
}

class LossStudy : public testing::Test {
 protected:
  void SetUp() override {
    study_.put_study(
        "loss", {TemporaryStudy::run("t1", "gmlp", "trunk", "done"),
                 TemporaryStudy::run("b1", "gmlp", "branch", "done", R"(,"parent":"t1")"),
                 TemporaryStudy::run("x1", "amlp", "run", "other-version", R"(,"version":"0.0.9")"),
                 TemporaryStudy::run("u1", "gmlp", "tuning", "failed", R"(,"reason":"loss is not finite")"),
                 TemporaryStudy::run("u2", "gmlp", "run", "waiting")});
    study_.put_run("runs/t1", 1, {5.0, 4.5, 4.0, 3.5});
    study_.put_run("runs/b1", 3, {3.75, 3.25});
    study_.put("points.csv",
               "family,params,tokens,flops,loss,seed,epochs,lr,trunk,run,use,model,role\n"
               "gmlp,1000000,400,2400000000,3.5,1,0.5,0.001,t1,t1,,s,trunk\n"
               "gmlp,1000000,400,2400000000,3.75,2,0.5,0.001,t2,t2,,s,trunk\n"
               "gmlp,1000000,200,1200000000,3.25,1,2,0.001,t1,b1,above one epoch,s,branch\n"
               "gmlp,1000000,200,1200000000,9.25,1,2,0.1,u1,u1,tuning,s,tuning\n");
    study_.put(
        "lr.csv",
        "family,params,lr,loss,seed,best,interior,run\n"
        "gmlp,1000000,0.001,3.5,1,0,1,a\ngmlp,1000000,0.002,3.0,1,1,1,b\ngmlp,1000000,0.002,3.5,2,1,1,c\n"
        "gmlp,1000000,0.004,3.5,1,0,1,d\n"
        "gmlp,4000000,0.001,3.0,1,0,0,e\ngmlp,4000000,0.002,2.75,1,1,0,f\n");
  }
  [[nodiscard]] WrittenPage written(const std::vector<Overlay>& overlays = {}) const {
    return write_page(study_page(study_.path(), overlays), "report");
  }

  TemporaryStudy study_;
};

TEST_F(LossStudy, SeedsAreAveragedAndWhatEntersNoFitSaysWhy) {
  const auto page = written();
  EXPECT_THAT(content_of(page, "losses.csv"),
              HasSubstr("gmlp,s,1 M,400,2.4e+09,0.5,0.001,2,3.6250,0.2500,37.52,yes\n"));
  EXPECT_THAT(content_of(page, "losses.csv"), HasSubstr("1,3.2500,,25.79,no: above one epoch\n"));
  EXPECT_THAT(content_of(page, "losses.csv"), Not(HasSubstr("9.25")));
  EXPECT_THAT(page.html, HasSubstr("<dt>least loss</dt><dd>3.2500"));
}

TEST_F(LossStudy, CurvesGoByTokensFlopsAndTimeAndABranchGoesOnFromItsTrunk) {
  const auto page = written({{.label = "other", .tokens = {200, 400}, .loss = {4.0, 3.0}}});
  // 600 FLOPs a token: 60000 FLOPs/s over 100 tokens/s of one device.
  EXPECT_THAT(content_of(page, "loss-flops.csv"), HasSubstr("gmlp s,120000,4.5\n"));
  EXPECT_THAT(content_of(page, "loss-time.csv"), HasSubstr("gmlp s,1,4.5\n"));
  EXPECT_THAT(content_of(page, "loss-tokens.csv"), HasSubstr("gmlp s,200,4.5\n"));
  EXPECT_THAT(content_of(page, "loss-tokens.csv"), HasSubstr("other,400,3\n"));
  // The branch's first step, its third, ends after three of 0.5 s, two of them its trunk's.
  EXPECT_THAT(content_of(page, "loss-time.csv"), HasSubstr("gmlp s,1.5,3.75\n"));
  EXPECT_THAT(page.html, HasSubstr(">useful training FLOPs<"));
  EXPECT_THAT(page.html, HasSubstr(">time in steps (s)<"));
}

TEST_F(LossStudy, ASizeWhoseBestRateIsAtAnEdgeIsMarked) {
  const auto page = written();
  EXPECT_EQ(content_of(page, "learning-rate-best.csv"),
            "family,N,tried,best learning rate,its loss (nats),enters LR(N)\n"
            "gmlp,1 M,3: 0.001 to 0.004,0.002,3.2500,yes\n"
            "gmlp,4 M,2: 0.001 to 0.002,0.002,2.7500,no: the best is at an edge of what was tried\n");
  EXPECT_THAT(page.html, HasSubstr("</span>4 M parameters, best at an edge</li>"));
  EXPECT_THAT(page.html, HasSubstr("1 tuning run without a loss"));
  EXPECT_THAT(table_row(page.html, "gmlp u1"), ElementsAre("gmlp u1", "failed", "loss is not finite"));
}

TEST_F(LossStudy, RunsThatAreNotDoneOrOfAnotherVersionAreTold) {
  const std::string html = written().html;
  EXPECT_THAT(html, HasSubstr("Not done: 2 of 5 runs."));
  EXPECT_THAT(table_row(html, "u2"), ElementsAre("u2", "gmlp u2", "waiting", ""));
  EXPECT_THAT(html, HasSubstr("(0.1.0 (commit aaaaaaaaaaaa)): 1 run."));
  EXPECT_THAT(html, HasSubstr("0123456789abcdef"));
  EXPECT_THAT(html, HasSubstr("HDF5       1.10.8"));
}

TEST_F(LossStudy, ThePageIsWellFormedInBothSchemes) {
  const std::string html = written().html;
  expect_well_formed(html);
  expect_self_contained(html);
  expect_both_schemes(html);
}

TEST_F(LossStudy, AStudyThatHasOnlyBegunHasAPage) {
  for (const char* file : {"points.csv", "lr.csv", "runs/t1/metrics.jsonl", "runs/b1/metrics.jsonl"})
    std::filesystem::remove(study_.path() / file);
  const std::string html = written().html;
  expect_well_formed(html);
  EXPECT_THAT(html, HasSubstr("<dt>runs</dt><dd>3 of 5"));
}

}  // namespace
}  // namespace sluice::study
