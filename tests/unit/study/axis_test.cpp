#include "trainer/study/axis.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <cmath>

namespace sluice::study {
namespace {

std::vector<std::string> labels(const std::vector<Tic>& tics) {
  std::vector<std::string> out;
  for (const auto& tic : tics) out.push_back(tic.label);
  return out;
}
using Labels = std::vector<std::string>;

TEST(Axis, LabelsAreShort) {
  for (const auto& [value, label] : std::vector<std::pair<double, std::string>>{{0.0, "0"},
                                                                                {0.05, "0.05"},
                                                                                {3e-4, "3e-4"},
                                                                                {1e-3, "1e-3"},
                                                                                {1.25, "1.25"},
                                                                                {2000.0, "2000"},
                                                                                {20000.0, "20k"},
                                                                                {1.5e6, "1.5M"},
                                                                                {3e9, "3G"},
                                                                                {1e15, "1P"}})
    EXPECT_EQ(tic_label(value), label);
}

TEST(Axis, RanksStandAtPowersOfTwo) {
  EXPECT_EQ(labels(log_tics(Axis::kLog2, {0.9, 8.5}, 10)), (Labels{"1", "2", "4", "8"}));
  EXPECT_EQ(labels(log_tics(Axis::kLog2, {0.9, 70.0}, 4)), (Labels{"1", "4", "16", "64"}));
}

TEST(Axis, DecadesGetAsManyPlacesAsThereIsRoomFor) {
  EXPECT_EQ(labels(log_tics(Axis::kLog10, {9e5, 1.1e8}, 10)),
            (Labels{"1M", "2M", "3M", "5M", "10M", "20M", "30M", "50M", "100M"}));
  EXPECT_EQ(labels(log_tics(Axis::kLog10, {9e5, 1.1e8}, 7)),
            (Labels{"1M", "2M", "5M", "10M", "20M", "50M", "100M"}));
  EXPECT_EQ(labels(log_tics(Axis::kLog10, {9e5, 1.1e8}, 5)), (Labels{"1M", "3M", "10M", "30M", "100M"}));
  EXPECT_EQ(labels(log_tics(Axis::kLog10, {1.0, 1e8}, 5)), (Labels{"1", "100", "10k", "1M", "100M"}));
}

TEST(Axis, ANarrowRangeIsCutEvenly) {
  EXPECT_EQ(labels(log_tics(Axis::kLog10, {2.15, 2.95}, 5)), (Labels{"2.2", "2.4", "2.6", "2.8"}));
}

RC_GTEST_PROP(Axis, PlacesLieWithinAndAreFew, ()) {
  const double low = std::pow(10.0, *rc::gen::inRange(-80, 80) / 10.0);
  const double high = low * std::pow(10.0, *rc::gen::inRange(1, 90) / 10.0);
  const int most = *rc::gen::inRange(3, 11);
  for (const auto axis : {Axis::kLog2, Axis::kLog10}) {
    const auto tics = log_tics(axis, {low, high}, most);
    RC_ASSERT(!tics.empty());
    RC_ASSERT(static_cast<int>(tics.size()) <= most + 1);
    for (std::size_t t = 0; t < tics.size(); ++t) {
      RC_ASSERT(tics[t].at >= low * (1.0 - 1e-8) && tics[t].at <= high * (1.0 + 1e-8));
      RC_ASSERT(t == 0 || tics[t].at > tics[t - 1].at);
    }
  }
}

TEST(Axis, RangesEncloseThePositiveValuesWithBandsAndBars) {
  Chart chart{.series = {{.x = {0.0, 10.0, 1000.0}, .y = {1.0, NAN, 4.0}, .y_low = {0.5, 1.0, 2.0}}}};
  const auto x = log_x_range(chart);
  EXPECT_LT(x.low, 10.0);
  EXPECT_GT(x.low, 7.0);
  EXPECT_GT(x.high, 1000.0);
  const auto y = log_y_range(chart);
  EXPECT_LT(y.low, 0.5);
  EXPECT_GT(y.high, 4.0);
  chart.y_low = 0.25;
  EXPECT_EQ(log_y_range(chart).low, 0.25);
  EXPECT_EQ(log_x_range(Chart{}).high, 10.0);
}

TEST(Axis, LabelsThatWouldTouchAreLeftOut) {
  // Five labels' width for 1.35 decades: 2 and 3 times a power of ten would be closer than one label.
  const auto tics = log_tics(Axis::kLog10, {16e6, 360e6}, 5);
  for (std::size_t i = 1; i < tics.size(); ++i)
    EXPECT_GE(std::log10(tics[i].at / tics[i - 1].at), 0.7 * std::log10(360.0 / 16.0) / 5) << tics[i].label;
  EXPECT_GE(tics.size(), 2U);
}

}  // namespace
}  // namespace sluice::study
