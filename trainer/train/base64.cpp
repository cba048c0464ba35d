#include "trainer/train/base64.h"

#include <cstddef>
#include <cstdint>
#include <stdexcept>

namespace sluice::train {
namespace {

constexpr std::string_view kDigits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
constexpr std::size_t kBytes = 3;  // of a group
constexpr std::size_t kLetters = 4;

}  // namespace

std::string base64_of(std::string_view bytes) {
  std::string text;
  text.reserve((bytes.size() + kBytes - 1) / kBytes * kLetters);
  for (std::size_t at = 0; at < bytes.size(); at += kBytes) {
    const std::string_view group = bytes.substr(at, kBytes);
    std::uint32_t bits = 0;
    for (std::size_t i = 0; i < kBytes; ++i)
      bits = bits << 8U | (i < group.size() ? static_cast<unsigned char>(group[i]) : 0U);
    for (std::size_t i = 0; i < kLetters; ++i)
      text += i <= group.size() ? kDigits[bits >> (18 - 6 * i) & 63U] : '=';
  }
  return text;
}

std::string bytes_of_base64(std::string_view text) {
  std::string bytes;
  bytes.reserve(text.size() / kLetters * kBytes);
  const std::string_view digits = text.substr(0, text.find('='));
  std::uint32_t bits = 0;
  for (std::size_t i = 0; i < digits.size(); ++i) {
    const auto digit = kDigits.find(digits[i]);
    if (digit == std::string_view::npos) throw std::invalid_argument("not base64");
    bits = bits << 6U | static_cast<std::uint32_t>(digit);
    if (i % kLetters > 0) bytes += static_cast<char>(bits >> (6 - 2 * (i % kLetters)) & 255U);
  }
  if (base64_of(bytes) != text) throw std::invalid_argument("not base64");
  return bytes;
}

}  // namespace sluice::train
