#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "tests/unit/study/fit/synthetic.h"
#include "trainer/study/fit/fit_charts.h"
#include "trainer/study/fit/fit_tables.h"

namespace sluice::study {
namespace {

using testing::HasSubstr;

/// Two families of five sizes at four budgets with two seeds, one row above one epoch, one left out.
Points two_families() {
  Points points{.source = "p.csv", .points = {}, .left_out = {}};
  Noise noise(1, 0.001);
  for (const std::string family : {"amlp", "gmlp"})
    for (const double n : ladder(1e6, 1e8, 5))
      for (const double d : ladder(1e8, 1e10, 4))
        for (int seed = 0; seed < 2; ++seed) {
          const double better = family == "amlp" ? 0.98 : 1.0;
          points.points.push_back(point(family, n, d, better * chinchilla().at(n, d) * std::exp(noise.next()),
                                        family + std::to_string(n) + std::to_string(seed)));
        }
  points.points.front().epochs = 2.0;
  points.left_out.push_back(point("gmlp", 1e6, 1e8, 7.0, "tuned"));
  points.left_out.back().use = "tuning";
  return points;
}

const Analysis& analysis() {
  static const Analysis kAnalysis = analyse(two_families(), {.resamples = 40});
  return kAnalysis;
}

TEST(FitTables, SayEveryFormOfBothFamilies) {
  for (const Form form : {Form::kParams, Form::kTokens, Form::kParamsTokens, Form::kCompute}) {
    const Grid laws = fit_table(analysis(), form);
    ASSERT_GE(laws.rows.size(), 2U) << name_of(form);
    for (const auto& row : laws.rows) EXPECT_EQ(row.size(), laws.columns.size()) << name_of(form);
    const Grid judgement = judgement_table(analysis(), form);
    EXPECT_EQ(judgement.rows.size(), laws.rows.size());
    for (const auto& row : judgement.rows) EXPECT_EQ(row.size(), judgement.columns.size()) << name_of(form);
  }
  EXPECT_EQ(comparison_table(analysis()).rows.size(), analysis().comparisons.size());
  for (const auto& grid :
       {comparison_table(analysis()), multiplier_table(analysis()), iso_flop_table(analysis())})
    for (const auto& row : grid.rows) EXPECT_EQ(row.size(), grid.columns.size()) << grid.name;
}

TEST(FitTables, RowsAreCountedByUse) {
  const Grid grid = use_table(analysis().points);
  const std::vector<std::vector<std::string>> rows = {
      {"in fits", "79"}, {"in fits, above one epoch", "1"}, {"left out: tuning", "1"}};
  EXPECT_EQ(grid.rows, rows);
}

TEST(FitTables, EstimatesAreShownWithTheirIntervals) {
  EXPECT_EQ(estimate_text({"a", 0.33333, {0.3, 0.35}}), "0.333 (0.3 to 0.35)");
  EXPECT_EQ(estimate_text({"a", 0.33333, {}}), "0.333");
}

TEST(FitCharts, LawsGoThroughTheirRowsWithinTheBand) {
  const Figure figure = fit_figure(analysis(), Form::kParams, Count::kAll);
  EXPECT_EQ(figure.name, "fit-params");
  const auto& series = figure.chart.series;
  const auto bands = std::ranges::count(series, Mark::kBand, &Series::mark);
  EXPECT_EQ(bands, 2);
  for (const auto& one : series) {
    if (one.mark != Mark::kBand) continue;
    for (std::size_t i = 0; i < one.x.size(); ++i) EXPECT_LT(one.y_low[i], one.y_high[i]);
  }
  const auto points = std::ranges::find(series, Mark::kPoints, &Series::mark);
  ASSERT_NE(points, series.end());
  EXPECT_EQ(points->x.size(), 10U);
}

TEST(FitCharts, TheFrontierShowsWhatIsNotOnIt) {
  const Figure figure = fit_figure(analysis(), Form::kCompute, Count::kAll);
  const auto rings = std::ranges::find(figure.chart.series, Mark::kRings, &Series::mark);
  ASSERT_NE(rings, figure.chart.series.end());
  EXPECT_GT(rings->x.size(), 10U);
}

TEST(FitPage, NamesAreUniqueAndWarningsStandThere) {
  const Page page = fit_page(analysis());
  std::vector<std::string> names;
  std::string text;
  for (const auto& part : page.parts) {
    if (const auto* figure = std::get_if<Figure>(&part)) names.push_back(figure->name);
    if (const auto* grid = std::get_if<Grid>(&part)) names.push_back(grid->name);
    if (const auto* paragraph = std::get_if<Paragraph>(&part)) text += paragraph->text + "\n";
  }
  auto unique = names;
  std::ranges::sort(unique);
  EXPECT_EQ(std::ranges::unique(unique).size(), 0U) << testing::PrintToString(names);
  EXPECT_THAT(text, HasSubstr("amlp, L(N, D) = E + A / N^a + B / D^b: 1 of 40 rows are above one epoch"));
}

TEST(FitPage, RefusalsStandInThePlaceOfLaws) {
  Points points{.source = "p.csv", .points = {}, .left_out = {}};
  for (const double n : {1e6, 1e7}) points.points.push_back(point("f", n, 1e9, 4.0, std::to_string(n)));
  std::string text;
  for (const auto& part : fit_parts(analyse(points)))
    if (const auto* paragraph = std::get_if<Paragraph>(&part)) text += paragraph->text + "\n";
  EXPECT_THAT(text, HasSubstr("f, L(N) = E + A / N^a: refused: too few cells: 2 different N"));
}

}  // namespace
}  // namespace sluice::study
