#include "dataio/utf8.h"

#include <algorithm>
#include <array>
#include <cstdio>

namespace sluice::dataio {
namespace {

bool continues(char byte) { return (static_cast<unsigned char>(byte) & 0xC0U) == 0x80U; }

/// Bytes of a code point by its first byte; 0 where no code point starts so.
std::int64_t length_from(unsigned char lead) {
  if (lead < 0x80) return 1;
  if (lead >= 0xC2 && lead <= 0xDF) return 2;
  if (lead >= 0xE0 && lead <= 0xEF) return 3;
  return lead >= 0xF0 && lead <= 0xF4 ? 4 : 0;
}

}  // namespace

CodePoint code_point_at(std::string_view text, std::int64_t at) {
  const auto start = static_cast<std::size_t>(at);
  const auto lead = static_cast<unsigned char>(text[start]);
  if (lead < 0x80) return {lead, 1};
  const std::int64_t bytes = length_from(lead);
  if (bytes == 0 || static_cast<std::int64_t>(text.size()) - at < bytes) return {0, 0};
  char32_t value = lead & (0x7FU >> bytes);
  for (std::int64_t i = 1; i < bytes; ++i) {
    const char byte = text[start + static_cast<std::size_t>(i)];
    if (!continues(byte)) return {0, 0};
    value = (value << 6U) | (static_cast<unsigned char>(byte) & 0x3FU);
  }
  constexpr std::array<char32_t, 5> kSmallest{0, 0, 0x80, 0x800, 0x10000};
  const bool surrogate = value >= 0xD800 && value <= 0xDFFF;
  if (value < kSmallest[static_cast<std::size_t>(bytes)] || value > 0x10FFFF || surrogate) return {0, 0};
  return {value, bytes};
}

void append_utf8(char32_t code_point, std::string& out) {
  const auto byte = [&out](char32_t bits) { out.push_back(static_cast<char>(bits)); };
  const auto tail = [&](unsigned shift) { byte(0x80U | ((code_point >> shift) & 0x3FU)); };
  if (code_point < 0x80) {
    byte(code_point);
  } else if (code_point < 0x800) {
    byte(0xC0U | (code_point >> 6U));
    tail(0);
  } else if (code_point < 0x10000) {
    byte(0xE0U | (code_point >> 12U));
    tail(6);
    tail(0);
  } else {
    byte(0xF0U | (code_point >> 18U));
    tail(12);
    tail(6);
    tail(0);
  }
}

std::string name_of(char32_t code_point) {
  std::array<char, 16> number{};
  std::snprintf(number.data(), number.size(), "U+%04X", static_cast<unsigned>(code_point));
  std::string name(number.data());
  const bool control = code_point < 0x20 || (code_point >= 0x7F && code_point < 0xA0);
  if (!control) {
    name += " '";
    append_utf8(code_point, name);
    name += "'";
  }
  return name;
}

std::string invalid_utf8_message(std::string_view text, std::int64_t at, std::int64_t place) {
  std::array<char, 8> byte{};
  std::snprintf(byte.data(), byte.size(), "0x%02X",
                static_cast<unsigned char>(text[static_cast<std::size_t>(at)]));
  return std::string("invalid UTF-8 (byte ") + byte.data() + ") at byte " + std::to_string(place);
}

std::int64_t count_characters(std::string_view text) {
  return std::count_if(text.begin(), text.end(), [](char byte) { return !continues(byte); });
}

std::int64_t character_border(std::string_view text, std::int64_t at) {
  if (at >= static_cast<std::int64_t>(text.size())) return static_cast<std::int64_t>(text.size());
  for (std::int64_t cut = at; cut >= std::max<std::int64_t>(at - 3, 0); --cut) {
    if (!continues(text[static_cast<std::size_t>(cut)])) return cut;
  }
  return at;
}

}  // namespace sluice::dataio
