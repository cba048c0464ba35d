#include "trainer/train/records.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>

#include "tests/unit/dataio/scratch.h"
#include "trainer/train/errors.h"

namespace sluice::train {
namespace {

class CutLinesTest : public testing::Test {
 protected:
  LinesKept cut(const std::string& content, std::int64_t step) {
    std::ofstream(file(), std::ios::binary) << content;
    return cut_lines(file(), step);
  }
  [[nodiscard]] std::filesystem::path file() const { return directory_.path() / "lines.jsonl"; }
  [[nodiscard]] std::string left() const { return read_file(file()); }

 private:
  dataio::Scratch directory_;
};

constexpr const char* kThree = "{\"step\":1}\n{\"step\":2}\n{\"kind\":\"valid\",\"step\":2}\n";

TEST_F(CutLinesTest, EndsBeforeTheFirstLaterStep) {
  const LinesKept kept = cut(std::string(kThree) + "{\"step\":3}\n{\"step\":4}\n", 2);
  EXPECT_EQ(kept.lines, 3);
  EXPECT_EQ(kept.last_valid_step, 2);
  EXPECT_EQ(left(), kThree);
}

TEST_F(CutLinesTest, KeepsAWholeFile) {
  EXPECT_EQ(cut(kThree, 9).lines, 3);
  EXPECT_EQ(left(), kThree);
}

TEST_F(CutLinesTest, TornLastLineGoes) {
  for (const char* torn : {"{\"st", "{\"step\":3}", "{\"st\n"}) {
    EXPECT_EQ(cut(std::string(kThree) + torn, 9).lines, 3) << torn;
    EXPECT_EQ(left(), kThree) << torn;
  }
}

TEST_F(CutLinesTest, AnythingElseThatIsNoLineIsRefusedByNumber) {
  try {
    cut("{\"step\":1}\nnonsense\n{\"step\":2}\n", 9);
    FAIL() << "accepted";
  } catch (const InputError& error) {
    EXPECT_THAT(error.what(), testing::HasSubstr("lines.jsonl: line 2"));
  }
  EXPECT_EQ(left(), "{\"step\":1}\nnonsense\n{\"step\":2}\n") << "left as it was";
}

TEST_F(CutLinesTest, MissingFileIsEmpty) {
  EXPECT_EQ(cut_lines(file(), 5).lines, 0);
  EXPECT_FALSE(std::filesystem::exists(file()));
}

}  // namespace
}  // namespace sluice::train
