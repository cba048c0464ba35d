#include "trainer/cli/terminal.h"

#include <gtest/gtest.h>

namespace sluice::cli {
namespace {

TEST(Terminal, Counts) {
  EXPECT_EQ(short_count(0), "0");
  EXPECT_EQ(short_count(9999), "9999");
  EXPECT_EQ(short_count(12345), "12.3k");
  EXPECT_EQ(short_count(1.5e9), "1.50G");
  EXPECT_EQ(full_count(0), "0");
  EXPECT_EQ(full_count(999), "999");
  EXPECT_EQ(full_count(1000), "1,000");
  EXPECT_EQ(full_count(-123456), "-123,456");
  EXPECT_EQ(full_count(1234567890), "1,234,567,890");
}

TEST(Terminal, Clock) {
  EXPECT_EQ(clock_text(0.9), "0:00:00");
  EXPECT_EQ(clock_text(3725), "1:02:05");
}

TEST(ProgressBar, ElsewhereThanOnATerminalEachPhaseIsOnePlainLine) {
  testing::internal::CaptureStderr();
  {
    ProgressBar bar;
    bar.update("first", 0, 100);
    bar.update("first", 100, 100);
    bar.update("second", 12345678, 12345678);
  }
  const auto text = testing::internal::GetCapturedStderr();
  EXPECT_TRUE(text.starts_with("first: 100 bytes in ")) << text;
  EXPECT_NE(text.find("second: 12.35M bytes in "), std::string::npos) << text;
  EXPECT_EQ(text.find('\r'), std::string::npos);
}

TEST(ProgressBar, APhaseThatWasNotFinishedIsNotCalledSo) {
  testing::internal::CaptureStderr();
  {
    ProgressBar bar;
    bar.update("first", 1, 100);
  }
  EXPECT_EQ(testing::internal::GetCapturedStderr(), "");
}

}  // namespace
}  // namespace sluice::cli
