#include "trainer/study/page.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "tests/unit/study/markup.h"
#include "trainer/study/csv.h"
#include "trainer/study/page_internal.h"

namespace sluice::study {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;

const double kNaN = std::numeric_limits<double>::quiet_NaN();

/// Every mark, on logarithmic axes.
Chart every_mark() {
  Chart chart{
      .x_label = "parameters", .y_label = "loss (nats)", .x_axis = Axis::kLog10, .y_axis = Axis::kLog10};
  int colour = 1;
  for (const auto mark : {Mark::kBand, Mark::kLine, Mark::kFaintLine, Mark::kDashed, Mark::kPoints,
                          Mark::kRings, Mark::kErrorBars})
    chart.series.push_back({.label = "mark " + std::to_string(static_cast<int>(mark)),
                            .colour = colour++ % 6 + 1,
                            .mark = mark,
                            .x = {1e6, 1e7, 1e8},
                            .y = {4.0, kNaN, 2.5},
                            .y_low = {3.5, 2.75, 2.25},
                            .y_high = {4.5, 3.25, 2.75}});
  return chart;
}

Chart bars() {
  return {
      .x_label = "ranks",
      .y_label = "time (ms)",
      .y_low = 0.0,
      .series = {{.label = "all", .colour = 6, .mark = Mark::kBars, .x = {1.0, 2.0}, .y = {10.0, 6.0}},
                 {.label = "compute", .colour = 1, .mark = Mark::kBars, .x = {1.0, 2.0}, .y = {8.0, 4.0}}},
      .x_names = {"one", "two & more"}};
}

Page page() {
  Page page{.title = "A <page>", .subtitle = "of | pipes"};
  page.add(KeyNumbers{{{"speed", "12", "tokens/s"}}});
  page.append({Heading{"Charts"}, Figure{"marks", every_mark(), "Marks"}, Pair{{{"bars", bars(), "Bars"}}}});
  page.add(Figure{"nothing", Chart{.x_label = "x", .y_label = "y", .series = {{.x = {1.0}, .y = {kNaN}}}},
                  "Nothing"});
  page.add(Grid{"table",
                {{"name", Align::kText}, {"value"}},
                {{"a|b", "1"}, {"c", "2\u202F000"}, {"\u2013", "\u2013"}}});
  page.add(Paragraph{"Beware of *this*.", Tone::kWarning});
  page.add(ValueTables{{{"model", {{"layers", "4"}}}}});
  page.add(Preformatted{"```\ncode"});
  return page;
}

const std::string& content_of(const WrittenPage& written, const std::string& name) {
  for (const auto& file : written.files)
    if (file.name == name) return file.content;
  throw std::out_of_range(name);
}

TEST(Page, IsOneWellFormedFileInBothSchemes) {
  const std::string html = write_page(page(), "report").html;
  expect_well_formed(html);
  expect_self_contained(html);
  expect_both_schemes(html);
}

TEST(Page, EveryChartHasItsAxesAndEverySeriesItsLegend) {
  const std::string html = write_page(page(), "report").html;
  for (const char* text : {">parameters<", ">loss (nats)<", ">1M<", ">10M<", ">100M<", ">ranks<",
                           ">time (ms)<", ">one<", ">two &amp; more<", "</span>compute</li>"})
    EXPECT_THAT(html, HasSubstr(text));
  for (const auto& series : every_mark().series)
    EXPECT_THAT(html, HasSubstr("</span>" + series.label + "</li>"));
  EXPECT_THAT(html, HasSubstr("stroke-dasharray"));
  EXPECT_THAT(html, HasSubstr("href='#ring'"));
}

TEST(Page, AChartWithoutAPointIsLeftOutOfEveryForm) {
  const auto written = write_page(page(), "report");
  EXPECT_THAT(written.html, Not(HasSubstr("Nothing")));
  EXPECT_THAT(written.markdown, Not(HasSubstr("Nothing")));
  std::vector<std::string> names;
  for (const auto& file : written.files) names.push_back(file.name);
  EXPECT_THAT(names, ElementsAre("marks.csv", "marks.svg", "bars.csv", "bars.svg", "table.csv"));
}

TEST(Page, TheDataBesideAChartAreThoseDrawn) {
  const auto written = write_page(page(), "report");
  const Table table = parse_csv(content_of(written, "marks.csv"), "marks.csv");
  EXPECT_THAT(table.columns, ElementsAre("series", "parameters", "loss (nats)", "low", "high"));
  std::size_t row = 0;
  for (const auto& series : every_mark().series)
    for (std::size_t i = 0; i < series.x.size(); ++i, ++row) {
      EXPECT_EQ(table.text(row, "series"), series.label);
      EXPECT_EQ(table.number(row, "parameters"), series.x[i]);
      if (std::isnan(series.y[i]))
        EXPECT_EQ(table.text(row, "loss (nats)"), "");
      else
        EXPECT_EQ(table.number(row, "loss (nats)"), series.y[i]);
      EXPECT_EQ(table.number(row, "low"), series.y_low[i]);
      EXPECT_EQ(table.number(row, "high"), series.y_high[i]);
    }
  EXPECT_EQ(row, table.rows.size());
  EXPECT_EQ(content_of(written, "bars.csv"),
            "series,ranks,time (ms)\nall,one,10\nall,two & more,6\ncompute,one,8\ncompute,two & more,4\n");
  EXPECT_EQ(content_of(written, "table.csv"), "name,value\na|b,1\nc,2000\n\u2013,\n");
}

TEST(Page, APictureByItselfHasItsLegendAndBothSchemes) {
  const auto written = write_page(page(), "report");
  for (const char* name : {"marks.svg", "bars.svg"}) {
    const std::string& svg = content_of(written, name);
    EXPECT_THAT(svg, HasSubstr("<svg xmlns=\"http://www.w3.org/2000/svg\""));
    EXPECT_THAT(svg, HasSubstr("prefers-color-scheme: dark"));
  }
  EXPECT_THAT(content_of(written, "bars.svg"), HasSubstr(">compute</text>"));
}

TEST(Page, MarkdownHasTheSamePartsAndNothingThatItWouldMisread) {
  const std::string markdown = write_page(page(), "my report").markdown;
  EXPECT_THAT(markdown, HasSubstr("# A &lt;page>\n\nof \\| pipes\n"));
  EXPECT_THAT(markdown, HasSubstr("![loss (nats) against parameters](my%20report/marks.svg)"));
  EXPECT_THAT(markdown, HasSubstr("[bars.csv](my%20report/bars.csv)"));
  EXPECT_THAT(markdown, HasSubstr("| name | value |\n|---|---:|\n| a\\|b | 1 |\n| c | 2\u202F000 |\n"));
  EXPECT_THAT(markdown, HasSubstr("**Beware of \\*this\\*.**"));
  EXPECT_THAT(markdown, HasSubstr("````\n```\ncode\n````"));
  EXPECT_THAT(markdown, HasSubstr("| layers | 4 |"));
}

TEST(Page, ALabelThatIsEmptyOrGivenTwiceHasOneEntryAtMost) {
  const Chart chart{.series = {{.label = "a"}, {.label = ""}, {.label = "a"}, {.label = "b"}}};
  const std::string text = legend(chart);
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 4);  // the list's two lines and two entries
}

}  // namespace
}  // namespace sluice::study
