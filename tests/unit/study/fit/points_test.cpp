#include "trainer/study/fit/points.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "trainer/study/fit/rates.h"
#include "trainer/train/errors.h"

namespace sluice::study {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

Points points_in(const std::string& text) { return points_of(parse_csv(text, "p.csv")); }

std::vector<std::string> faults_of(const std::string& text) {
  try {
    (void)points_in(text);
  } catch (const train::InputError& error) {
    return error.faults();
  }
  return {};
}

TEST(Points, KeepsRowsThatEnterFitsApartFromOthers) {
  const auto points = points_in(
      "family,params,loss,use,seed,trunk,run,extra\n"
      "gmlp,1e6,4.5,,1,t,a,x\ngmlp,1e6,4.4,fit,1,t,b,y\ngmlp,1e6,,tuning,1,,c,z\namlp,2e6,4,,2,,d,\n");
  ASSERT_EQ(points.points.size(), 3U);
  ASSERT_EQ(points.left_out.size(), 1U);
  EXPECT_EQ(points.left_out[0].use, "tuning");
  EXPECT_TRUE(std::isnan(points.left_out[0].loss));
  EXPECT_THAT(points.families(), ElementsAre("gmlp", "amlp"));
  EXPECT_EQ(points.of("amlp").size(), 1U);
  EXPECT_TRUE(std::isnan(points.points[0].tokens));
}

TEST(Points, BranchesOfATrunkAreOneUnitAndItsOtherSeedAnother) {
  const auto points =
      points_in(
          "params,loss,seed,trunk,run\n1,4,1,t,a\n1,4,1,t,b\n1,4,2,t,c\n1,4,1,,d\n1,4,1,,d\n1,4,,,\n1,4,,,\n")
          .points;
  EXPECT_EQ(points[0].unit, points[1].unit);
  EXPECT_NE(points[0].unit, points[2].unit);
  EXPECT_EQ(points[3].unit, points[4].unit);
  EXPECT_NE(points[5].unit, points[6].unit);
}

TEST(Points, CellsAboveOneEpochAreKnownByEpochsOrByUniqueTokens) {
  const auto points =
      points_in("params,loss,tokens,unique_tokens,epochs\n1,4,10,,\n1,4,10,10,1\n1,4,,,1.5\n1,4,20,10,\n")
          .points;
  EXPECT_FALSE(points[0].above_one_epoch());
  EXPECT_FALSE(points[1].above_one_epoch());
  EXPECT_TRUE(points[2].above_one_epoch());
  EXPECT_TRUE(points[3].above_one_epoch());
}

TEST(Points, NamesEveryFaultWithLineAndColumn) {
  EXPECT_THAT(
      faults_of("params,loss,flops\n1e6,x,1\n-1,4,0\n1e6,,1\n"),
      ElementsAre("p.csv, line 2, column loss: 'x' is not a finite number",
                  "p.csv, line 3, column params: -1 is not positive",
                  "p.csv, line 3, column flops: 0 is not positive",
                  "p.csv, line 4, column loss: is empty, but the row's use is '': it would enter fits"));
  EXPECT_THAT(faults_of("size,ppl\n1,2\n"),
              ElementsAre("p.csv: has no column loss; its columns are size, ppl",
                          "p.csv: has none of the columns params, tokens, flops; its columns are size, ppl"));
  EXPECT_THAT(faults_of("params,loss,use\n1,2,tuning\n"),
              ElementsAre(HasSubstr("no row enters fits: 1 rows")));
}

TEST(Rates, AnOptimumIsInteriorOrAtTheEdgeOfThoseTried) {
  // loss = 4 + (log2 lr + 9)^2 around lr = 2^-9, and a second size that still falls at its largest rate.
  const auto points = points_in(
      "family,params,lr,loss,use\n"
      "f,1e6,0.0009765625,5,tuning\nf,1e6,0.001953125,4,tuning\nf,1e6,0.00390625,5,tuning\n"
      "f,2e6,0.001,5,tuning\nf,2e6,0.002,4.5,tuning\nf,2e6,0.004,4.2,\nf,3e6,0.004,4.2,tuning\n");
  const auto sweeps = rate_sweeps(points);
  ASSERT_EQ(sweeps.size(), 2U);
  EXPECT_TRUE(sweeps[0].interior);
  EXPECT_NEAR(sweeps[0].optimum, 0.001953125, 1e-12);
  EXPECT_FALSE(sweeps[1].interior);
  EXPECT_EQ(sweeps[1].optimum, 0.004);
  const auto fits = fit_rates(sweeps, {});
  ASSERT_EQ(fits.size(), 1U);
  EXPECT_THAT(fits[0].refusal, HasSubstr("1 size has a best learning rate"));
}

/// Where the best rate alone was run with a second, worse seed, its mean would be worse than its neighbour.
TEST(Rates, CompareSeedsThatAllRatesHave) {
  const auto points = points_in(
      "family,params,lr,loss,seed,use\n"
      "f,1e6,0.001,5,1,tuning\nf,1e6,0.002,4,1,\nf,1e6,0.002,4.4,2,\nf,1e6,0.004,4.1,1,tuning\n"
      "g,1e6,0.001,5,1,tuning\ng,1e6,0.002,4,2,tuning\ng,1e6,0.002,5,3,tuning\ng,1e6,0.004,6,1,tuning\n");
  const auto sweeps = rate_sweeps(points);
  ASSERT_EQ(sweeps.size(), 2U);
  EXPECT_THAT(sweeps[0].loss, testing::ElementsAre(5, 4, 4.1));
  EXPECT_TRUE(sweeps[0].interior);
  EXPECT_THAT(sweeps[1].loss, testing::ElementsAre(5, 4.5, 6));
}

}  // namespace
}  // namespace sluice::study
