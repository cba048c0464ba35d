#include "trainer/train/base64.h"

#include <gtest/gtest.h>

#include <stdexcept>
#include <string>

namespace sluice::train {
namespace {

TEST(Base64, WritesWhatRfc4648SaysInSection10) {
  EXPECT_EQ(base64_of(""), "");
  EXPECT_EQ(base64_of("f"), "Zg==");
  EXPECT_EQ(base64_of("fo"), "Zm8=");
  EXPECT_EQ(base64_of("foo"), "Zm9v");
  EXPECT_EQ(base64_of("foob"), "Zm9vYg==");
  EXPECT_EQ(base64_of("fooba"), "Zm9vYmE=");
  EXPECT_EQ(base64_of("foobar"), "Zm9vYmFy");
}

TEST(Base64, AnyBytesComeBack) {
  std::string bytes;
  for (int i = 0; i < 1000; ++i) {
    EXPECT_EQ(bytes_of_base64(base64_of(bytes)), bytes);
    bytes += static_cast<char>(i * 37);
  }
}

TEST(Base64, RefusesWhatItWouldNotWrite) {
  for (const char* text : {"Zg", "Zg=", "Zh==", "Zg==Zg==", "Z", "Zm9v\n", "Zm-_", "===="})
    EXPECT_THROW((void)bytes_of_base64(text), std::invalid_argument) << text;
}

}  // namespace
}  // namespace sluice::train
