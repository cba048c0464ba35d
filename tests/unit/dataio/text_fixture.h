#pragma once

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>

namespace sluice::dataio {

inline std::filesystem::path write_text(const std::filesystem::path& path, const std::string& text) {
  std::filesystem::create_directories(path.parent_path());
  std::ofstream(path, std::ios::binary) << text;
  return path;
}

inline std::string read_text(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

/// About `bytes` of words, lines and paragraphs, a pure function of the seed; some characters take two and
/// three bytes.
inline std::string synthetic_text(std::size_t bytes, std::uint32_t seed) {
  constexpr const char* kSyllables[] = {"ka",  "tor",       "mi", "len", "sub",          "ra", "vec", "ion",
                                        "ste", "p\xC3\xA9", "du", "get", "\xE2\x82\xAC", "  ", "x_",  "42"};
  std::string text;
  std::uint32_t state = seed * 2654435761U + 1;
  const auto draw = [&state](std::uint32_t below) {
    state = state * 1664525U + 1013904223U;
    return (state >> 16U) % below;
  };
  while (text.size() < bytes) {
    for (std::uint32_t i = draw(4) + 1; i > 0; --i) text += kSyllables[draw(16)];
    const std::uint32_t after = draw(40);
    text += after == 0 ? ".\n\n" : after < 4 ? "\n" : " ";
  }
  return text;
}

}  // namespace sluice::dataio
