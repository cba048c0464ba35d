#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace sluice::dataio {

/// One code point of a UTF-8 text; `bytes` is 0 where the text is not UTF-8 (too short, overlong, a
/// surrogate, too large).
struct CodePoint {
  char32_t value = 0;
  std::int64_t bytes = 0;
};

/// The code point that starts at byte `at` < text.size().
[[nodiscard]] CodePoint code_point_at(std::string_view text, std::int64_t at);
/// Appends the UTF-8 form of a Unicode scalar value.
void append_utf8(char32_t code_point, std::string& out);
/// "U+00E9 'é'"; control characters by number alone.
[[nodiscard]] std::string name_of(char32_t code_point);
/// "invalid UTF-8 (byte 0xFF) at byte 12", 12 being `place`.
[[nodiscard]] std::string invalid_utf8_message(std::string_view text, std::int64_t at, std::int64_t place);
/// Code points of `text`: bytes that do not continue one, so the counts of the parts of a text add up to that
/// of the whole.
[[nodiscard]] std::int64_t count_characters(std::string_view text);
/// The largest cut <= `at` that splits no code point (of valid UTF-8; at most 3 bytes before `at`).
[[nodiscard]] std::int64_t character_border(std::string_view text, std::int64_t at);

}  // namespace sluice::dataio
