#include "trainer/train/event_file.h"

#include <gtest/gtest.h>

#include <cstring>
#include <limits>
#include <string>

#include "tests/unit/dataio/scratch.h"

namespace sluice::train {
namespace {

class EventFileTest : public testing::Test {
 protected:
  [[nodiscard]] const std::filesystem::path& directory() const { return scratch_.path(); }
  [[nodiscard]] std::filesystem::path file() const { return directory() / kEventFile; }
  [[nodiscard]] std::string content() const { return read_file(file()); }

 private:
  dataio::Scratch scratch_;
};

TEST(Crc32c, IsThatOfTheStandardsExamples) {
  EXPECT_EQ(crc32c(std::string(32, '\0')), 0x8A9136AAU);  // RFC 3720, B.4
  EXPECT_EQ(crc32c(std::string(32, '\xFF')), 0x62A8AB43U);
  EXPECT_EQ(crc32c("123456789"), 0xE3069283U);
}

TEST(TfRecord, IsLengthChecksumDataChecksum) {
  const std::string record = tf_record("abc");
  ASSERT_EQ(record.size(), 8U + 4 + 3 + 4);
  EXPECT_EQ(record.substr(0, 8), std::string("\3\0\0\0\0\0\0\0", 8));
  EXPECT_EQ(record.substr(12, 3), "abc");
  std::uint32_t masked = 0;
  std::memcpy(&masked, record.data() + 15, sizeof masked);
  const std::uint32_t crc = crc32c("abc");
  EXPECT_EQ(masked, ((crc >> 15) | (crc << 17)) + 0xA282EAD8U);
}

TEST_F(EventFileTest, HoldsOneRecordForEachCall) {
  EventFile events(directory(), 0);
  const std::size_t before = content().size();
  events.append(1, {{.tag = "loss/train", .value = 2.5}, {.tag = "lr", .value = 0.5}});
  const std::string record = content().substr(before);
  // wall time (9), step (2), summary (2): value (2): tag (2 + 10), float (5); value: tag (2 + 2), float (5)
  EXPECT_EQ(record.size(), 16U + 9 + 2 + 2 + (2 + 12 + 5) + (2 + 4 + 5));
  EXPECT_NE(record.find(std::string("\x0a\x0aloss/train\x15\0\0\x20\x40", 17)), std::string::npos);
}

TEST_F(EventFileTest, LeavesOutWhatIsNotFinite) {
  EventFile events(directory(), 0);
  const std::string before = content();
  events.append(1, {{.tag = "loss/train", .value = std::numeric_limits<double>::quiet_NaN()}});
  EXPECT_EQ(content(), before);
}

TEST_F(EventFileTest, GrowsOnResumeAndLosesATornRecordAlone) {
  {
    EventFile events(directory(), 0);
    events.append(1, {{.tag = "lr", .value = 1}});
  }
  const std::string whole = content();
  for (const std::size_t torn : {std::size_t{3}, std::size_t{20}, tf_record("abcdef").size() - 1}) {
    replace_file(file(), whole + tf_record("abcdef").substr(0, torn));
    EventFile events(directory(), 1);
    EXPECT_EQ(content().substr(0, whole.size()), whole) << torn;
    // A session's start alone: wall time (9), step (2), log (2 + 2).
    EXPECT_EQ(content().size(), whole.size() + 16 + 9 + 2 + 4) << torn;
  }
}

}  // namespace
}  // namespace sluice::train
