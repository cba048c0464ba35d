#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <set>

#include "trainer/study/experiment/expand.h"
#include "trainer/study/experiment/tables.h"
#include "trainer/study/experiment/tuning.h"
#include "trainer/train/errors.h"

namespace sluice::study {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::SizeIs;

/// 1000 tokens a step; a model of d_model^2 parameters; wsd that decays over the last fifth.
CellFacts facts_of(const Values& values) {
  const auto width = std::stoll(values.at("model.d_model"));
  if (width < 0) throw train::InputError("model.d_model = -1: must be above zero");
  return {.counts = {.params = width * width,
                     .params_no_embedding = width * width / 2,
                     .params_no_spatial = width * width / 4,
                     .flops_per_token = 6.0 * static_cast<double>(width * width),
                     .tokens_per_step = 1000,
                     .corpus_tokens = 50'000},
          .warmup_steps = 2,
          .decays = true,
          .wsd = true,
          .decay_begin = [](std::int64_t steps) {
            return steps - std::llround(0.2 * static_cast<double>(steps));
          }};
}

StudySpec spec_of_two_families() {
  StudySpec spec;
  spec.name = "two";
  spec.dir = "out";
  spec.seeds = {1, 2};
  spec.settings = {{"optim.clip", "1"}};
  spec.families = {{.name = "gmlp", .values = {{"model.kind", "gmlp"}}},
                   {.name = "transformer", .values = {{"model.kind", "transformer"}}}};
  spec.sizes.resize(3);
  spec.sizes[0].name = "s";
  spec.sizes[0].values = {{"model.d_model", "10"}};
  spec.sizes[1].name = "m";
  spec.sizes[1].values = {{"model.d_model", "20"}};
  spec.sizes[2].name = "l";
  spec.sizes[2].values = {{"model.d_model", "40"}};
  spec.sizes[2].seeds = {1};
  spec.budgets.amounts = {10e3, 20e3, 40e3};
  return spec;
}

Expansion expand_all(const StudySpec& spec, const Losses& losses = {}) {
  return expand(spec, make_cells(spec, facts_of), losses, "out");
}

std::vector<Run> of_role(const Expansion& all, Role role) {
  std::vector<Run> runs;
  for (const auto& run : all.runs)
    if (run.role == role) runs.push_back(run);
  return runs;
}

TEST(Expand, AGridIsFamiliesTimesSizesTimesSeedsTimesBudgets) {
  const auto all = expand_all(spec_of_two_families());
  EXPECT_THAT(all.runs, SizeIs(2 * (2 + 2 + 1) * 3));
  std::set<std::string> ids;
  for (const auto& run : all.runs) ids.insert(run.id);
  EXPECT_EQ(ids.size(), all.runs.size()) << "ids are different";
  const auto& run = all.runs.front();
  EXPECT_EQ(run.values.at("run.seed"), "1");
  EXPECT_EQ(run.values.at("train.steps"), "10");
  EXPECT_EQ(run.values.at("optim.clip"), "1");
  EXPECT_EQ(run.tokens(), 10'000);
}

TEST(Expand, IsoFlopAndTokensAParameterBecomeStepsOfEachModel) {
  auto spec = spec_of_two_families();
  spec.budgets.unit = BudgetUnit::kFlops;
  spec.budgets.amounts = {6.0 * 100 * 80e3};
  const auto cells = make_cells(spec, facts_of);
  EXPECT_THAT(cells[0].steps, ElementsAre(80));
  EXPECT_THAT(cells[1].steps, ElementsAre(20));
  EXPECT_THAT(cells[2].steps, ElementsAre(5));
  spec.budgets.unit = BudgetUnit::kTokensPerParameter;
  spec.budgets.amounts = {100};
  EXPECT_THAT(make_cells(spec, facts_of)[2].steps, ElementsAre(160));
}

TEST(Expand, AnAxisMakesAFamilyOfEachValue) {
  auto spec = spec_of_two_families();
  spec.axes = {{.key = "optim.weight_decay", .values = {"0", "0.1"}}};
  const auto all = expand_all(spec);
  EXPECT_THAT(all.runs, SizeIs(2 * 2 * 5 * 3));
  EXPECT_EQ(all.runs.front().family, "gmlp, optim.weight_decay=0");
  EXPECT_THAT(all.runs.front().id, testing::StartsWith("gmlp-s-"));
}

TEST(Expand, AnIdHashesWhatTheFileSetsAndNothingElse) {
  study::Run run{.values = {{"optim.lr", "0.001"}, {"run.seed", "1"}}};
  EXPECT_EQ(run_id("gmlp", "s", run), "gmlp-s-18f5542ea8") << "an id must be the same for ever";
  auto other = run;
  other.derived["run.branch_from"] = "elsewhere/checkpoints/step-000008";
  other.resolved["model.gelu"] = "a default of today";
  EXPECT_EQ(run_id("gmlp", "s", other), run_id("gmlp", "s", run));
  other.values["optim.lr"] = "0.002";
  EXPECT_NE(run_id("gmlp", "s", other), run_id("gmlp", "s", run));
  EXPECT_THAT(run_id("g mlp/x", "s", run), testing::StartsWith("g_mlp_x-s-"));
}

TEST(Expand, BranchesLeaveTheTrunkBeforeTheirDecay) {
  auto spec = spec_of_two_families();
  spec.budgets.branches = true;
  const auto all = expand_all(spec);
  const auto trunks = of_role(all, Role::kTrunk);
  const auto branches = of_role(all, Role::kBranch);
  ASSERT_THAT(trunks, SizeIs(10));
  ASSERT_THAT(branches, SizeIs(20));
  EXPECT_EQ(trunks[0].derived.at("checkpoint.at"), "8,16");
  EXPECT_EQ(trunks[0].steps, 40);
  EXPECT_EQ(branches[0].parent, trunks[0].id);
  EXPECT_EQ(branches[0].derived.at("run.branch_from"),
            "out/runs/" + trunks[0].id + "/checkpoints/step-000008");
  EXPECT_EQ(branches[1].derived.at("run.branch_from"),
            "out/runs/" + trunks[0].id + "/checkpoints/step-000016");
}

TEST(Expand, ABranchHasTheIdOfTheSameRunWithoutATrunk) {
  auto spec = spec_of_two_families();
  const auto grid = expand_all(spec);
  spec.budgets.branches = true;
  const auto branched = expand_all(spec);
  ASSERT_EQ(grid.runs.size(), branched.runs.size());
  for (std::size_t i = 0; i < grid.runs.size(); ++i) EXPECT_EQ(grid.runs[i].id, branched.runs[i].id);
}

TEST(Expand, FaultsOfAllCellsComeTogetherWithTheirNames) {
  auto spec = spec_of_two_families();
  spec.sizes[1].values["model.d_model"] = "-1";
  try {
    (void)make_cells(spec, facts_of);
    FAIL() << "a cell that cannot be was taken";
  } catch (const train::InputError& error) {
    EXPECT_THAT(error.faults(), ElementsAre(HasSubstr("gmlp m: model.d_model = -1"),
                                            HasSubstr("transformer m: model.d_model = -1")));
  }
  spec = spec_of_two_families();
  spec.budgets.branches = true;
  spec.budgets.amounts = {2e3, 20e3};
  EXPECT_THROW((void)make_cells(spec, facts_of), train::InputError) << "decays within its warm-up";
}

TEST(Expand, ARunAboveOneEpochIsMarked) {
  auto spec = spec_of_two_families();
  spec.budgets.amounts = {50e3, 51e3};
  const auto all = expand_all(spec);
  EXPECT_EQ(all.runs[0].left_out, "");
  EXPECT_EQ(all.runs[1].left_out, "above one epoch");
}

StudySpec tuned_spec() {
  auto spec = spec_of_two_families();
  spec.tune.values = {0.001, 0.002, 0.004};
  spec.tune.sizes = {"s", "m"};
  spec.budgets.branches = true;
  return spec;
}

/// A study whose loss is a parabola in log(lr) around best(params), run until nothing more is asked for.
Expansion finish_tuning(const StudySpec& spec, double (*best)(double params)) {
  Losses losses;
  for (;;) {
    auto all = expand_all(spec, losses);
    const auto known = losses.size();
    for (const auto& run : all.runs) {
      const double off =
          std::log(std::stod(run.values.at("optim.lr")) / best(static_cast<double>(run.counts.params)));
      losses.emplace(run.id, 3 + off * off);
    }
    if (losses.size() == known) return all;
  }
}

TEST(Tune, MainRunsWaitForTheirLearningRate) {
  const auto all = expand_all(tuned_spec());
  EXPECT_THAT(of_role(all, Role::kTuning), SizeIs(2 * 2 * 3));
  EXPECT_EQ(all.runs.size(), 12U);
  EXPECT_EQ(all.undecided, 2 * 5 * 3);
}

TEST(Tune, TheGridIsWidenedAndTheLawReachesLargerSizes) {
  const auto best = [](double params) { return 0.05 * std::pow(params, -0.5); };  // 0.005, 0.0025, 0.00125
  const auto all = finish_tuning(tuned_spec(), best);
  EXPECT_EQ(all.undecided, 0);
  for (const auto& run : all.runs) {
    if (run.role == Role::kTuning) continue;
    const double lr = std::stod(run.values.at("optim.lr"));
    // The vertices of the parabolas give the law exactly.
    EXPECT_NEAR(lr, run.model == "s" ? 0.004 : run.model == "m" ? 0.002 : 0.00125, 1e-6) << run.title();
    EXPECT_EQ(run.left_out, "");
  }
  const auto widened =
      std::ranges::count_if(all.tuning, [](const TuningPoint& one) { return one.value == 0.008; });
  EXPECT_EQ(widened, 2) << "size s of both families, whose best was at the edge";
}

TEST(Tune, AFinishedTuningRunIsTheMainRunOfItsBudget) {
  const auto all = finish_tuning(tuned_spec(), [](double) { return 0.002; });
  for (const auto& point : all.tuning) {
    const auto count =
        std::ranges::count_if(all.runs, [&](const study::Run& run) { return run.id == point.run; });
    EXPECT_EQ(count, 1) << point.run;
  }
  EXPECT_THAT(of_role(all, Role::kTuning), SizeIs(2 * 2 * 2))
      << "the best of each cell is no tuning run any more";
}

TEST(Tune, ABestAtTheEdgeIsMarkedAndLeftOutOfTheLaw) {
  auto spec = tuned_spec();
  spec.tune.most = 4;
  const auto all = finish_tuning(spec, [](double params) { return params < 200 ? 1.0 : 0.002; });
  for (const auto& run : all.runs) {
    if (run.role == Role::kTuning) continue;
    EXPECT_EQ(run.left_out, run.model == "s"   ? "lr at edge"
                            : run.model == "l" ? "lr not tuned"
                                               : "")
        << run.title();
  }
}

TEST(Tune, AFailedValueAboveTheBestIsTooHighAndOneBelowSaysNothing) {
  const double failed = std::numeric_limits<double>::infinity();
  const TuningRules rules{.values = {1, 2, 4}};
  const auto high = tuning_state(rules, {{1, 3.5}, {2, 3.0}, {4, failed}});
  EXPECT_TRUE(high.done && high.interior);
  EXPECT_EQ(high.best, 2);
  EXPECT_EQ(high.vertex, 2);
  const auto low = tuning_state(rules, {{1, failed}, {2, 3.0}, {4, 3.5}});
  EXPECT_TRUE(low.done && !low.interior);
  EXPECT_FALSE(tuning_state(rules, {{1, failed}, {2, failed}, {4, failed}}).done);
  EXPECT_FALSE(tuning_state(rules, {{1, 3.5}, {2, 3.0}}).done);
}

TEST(Tune, ALawNeedsTwoSizes) {
  EXPECT_FALSE(fit_tuning_law({{1000, 0.01}}).has_value());
  EXPECT_FALSE(fit_tuning_law({{1000, 0.01}, {1000, 0.02}}).has_value());
  const auto law = fit_tuning_law({{1e3, 1e-2}, {1e4, 1e-2 / std::sqrt(10.0)}, {1e5, 1e-3}});
  ASSERT_TRUE(law.has_value());
  EXPECT_NEAR(law->slope, -0.5, 1e-12);
  EXPECT_NEAR(law->at(1e7), 1e-4, 1e-12);
}

TEST(Speed, StrongSharesTheBatchAndWeakGivesItToEachRank) {
  StudySpec spec;
  spec.kind = StudyKind::kSpeed;
  spec.families = {{.name = "model", .values = {}}};
  spec.sizes.resize(1);
  spec.sizes[0].values = {{"model.d_model", "10"}, {"train.global_batch", "16"}};
  spec.axes = {{.key = "parallel.sp", .values = {"1", "2"}}};
  spec.speed.modes = {"strong", "weak"};
  spec.speed.ranks = {1, 2, 4};
  spec.speed.weak_batch = 8;
  const auto all = expand_all(spec);
  std::vector<std::string> cells;
  for (const auto& run : all.runs)
    cells.push_back(run.values.at("parallel.sp") + " " + run.mode + " " + std::to_string(run.ranks) + " " +
                    run.values.at("train.global_batch"));
  EXPECT_THAT(cells,
              ElementsAre("1 strong 1 16", "1 strong 2 16", "1 strong 4 16", "1 weak 1 8", "1 weak 2 16",
                          "1 weak 4 32", "2 strong 2 16", "2 strong 4 16", "2 weak 2 16", "2 weak 4 32"));
}

TEST(Speed, AMicroBatchIsAtMostTheShareOfARank) {
  StudySpec spec;
  spec.kind = StudyKind::kSpeed;
  spec.families = {{.name = "model", .values = {}}};
  spec.sizes.resize(1);
  spec.sizes[0].values = {{"model.d_model", "10"}, {"train.global_batch", "4"}, {"train.micro_batch", "4"}};
  spec.axes = {{.key = "parallel.sp", .values = {"1", "2"}}};
  spec.speed.modes = {"strong"};
  spec.speed.ranks = {1, 2, 4};
  std::vector<std::string> micro_batches;
  for (const auto& run : expand_all(spec).runs) micro_batches.push_back(run.values.at("train.micro_batch"));
  EXPECT_THAT(micro_batches, ElementsAre("4", "2", "1", "4", "2"));
}

TEST(Tables, APointHasAllCountsAndItsTrunk) {
  auto spec = spec_of_two_families();
  spec.budgets.branches = true;
  std::vector<StudyRun> runs;
  for (const auto& run : expand_all(spec).runs) runs.emplace_back().run = run;
  runs[0].state.loss = 3.25;
  runs[2].state.version = "0.0.9";
  runs[2].state.loss = 3.0;
  const auto table = points_table(runs);
  ASSERT_EQ(table.rows.size(), 2U) << "runs without a loss have no row";
  EXPECT_EQ(table.text(0, "family"), "gmlp");
  EXPECT_EQ(table.number(0, "params"), 100);
  EXPECT_EQ(table.number(0, "params_no_embedding"), 50);
  EXPECT_EQ(table.number(0, "params_no_spatial"), 25);
  EXPECT_EQ(table.number(0, "tokens"), 10'000);
  EXPECT_EQ(table.number(0, "flops"), 6.0 * 100 * 10'000);
  EXPECT_EQ(table.number(0, "epochs"), 0.2);
  EXPECT_EQ(table.number(0, "loss"), 3.25);
  EXPECT_EQ(table.text(0, "trunk"), runs[2].run.id);
  EXPECT_EQ(table.text(1, "trunk"), runs[2].run.id);
  EXPECT_EQ(table.text(1, "version"), "0.0.9");
}

}  // namespace
}  // namespace sluice::study
