#include "trainer/study/report_provenance.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/unit/study/temporary_study.h"

namespace sluice::study {
namespace {

using testing::ElementsAre;

Origin origin(const std::string& name, const std::vector<Row>& settings) {
  return {.name = name, .settings = settings, .build = {}, .device = {}, .corpus = {}, .ranks = {}};
}

TEST(Provenance, SettingsDifferWhereTheirValuesDoOrOneLacksThem) {
  const std::vector<Origin> origins = {
      origin("a", {{"run.dir", "runs/a"}, {"optim.lr", "0.001"}, {"model.layers", "4"}, {"model.new", "1"}}),
      origin("b", {{"run.dir", "runs/b"}, {"optim.lr", "0.002"}, {"model.layers", "4"}})};
  EXPECT_THAT(differing_keys(origins), ElementsAre("optim.lr", "model.new"));
  const Grid grid = differing_settings(origins);
  EXPECT_THAT(grid.rows[0], ElementsAre("optim.lr", "0.001", "0.002"));
  EXPECT_THAT(grid.rows[1], ElementsAre("model.new", "1", ""));
  const ValueTables common = common_settings(origins);
  ASSERT_EQ(common.tables.size(), 1U);
  EXPECT_EQ(common.tables[0].title, "model");
  ASSERT_EQ(common.tables[0].rows.size(), 1U);
  EXPECT_EQ(common.tables[0].rows[0].name, "layers");
}

TEST(Provenance, OfManyRunsTheValuesAreCounted) {
  std::vector<Origin> origins;
  for (const char* seed : {"1", "1", "1", "2", "2", "3", ""})
    origins.push_back(
        origin("run", *seed == '\0' ? std::vector<Row>{} : std::vector<Row>{{"run.seed", seed}}));
  EXPECT_THAT(differing_settings(origins).rows[0],
              ElementsAre("run.seed", "1 (3); 2 (2); 3 (1); not told: 1"));
}

TEST(Provenance, ARunTellsWhereItCameFrom) {
  TemporaryStudy study;
  study.put_run("r", 1, {2.0});
  const Origin told = origin_of(study.path() / "r", "r");
  EXPECT_EQ(told.device, "NVIDIA H200");
  EXPECT_EQ(told.corpus, "0123456789abcdef");
  EXPECT_EQ(told.ranks, "2");
  EXPECT_EQ(told.setting("data.corpus"), "corpora/a");
  const Grid grid = origin_table({told});
  EXPECT_THAT(grid.rows[0], ElementsAre("program", "sluice 0.1.0 (commit aaaaaaaaaaaa)"));
  EXPECT_TRUE(origin_table({origin("nothing", {})}).rows.empty());
}

}  // namespace
}  // namespace sluice::study
