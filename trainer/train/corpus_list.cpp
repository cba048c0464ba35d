#include "trainer/train/corpus_list.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <filesystem>
#include <optional>

namespace sluice::train {

namespace {

constexpr const char* kMixtureForm =
    "a mixture is PATH:WEIGHT,PATH:WEIGHT,...; a path that itself contains ':' or ',' needs a symbolic link "
    "of "
    "another name";

std::string without_spaces_around(const std::string& text) {
  const std::size_t first = text.find_first_not_of(' ');
  return first == std::string::npos ? "" : text.substr(first, text.find_last_not_of(' ') - first + 1);
}

std::vector<std::string> pieces_between_commas(const std::string& text) {
  std::vector<std::string> pieces;
  for (std::size_t begin = 0; begin <= text.size();) {
    const std::size_t end = std::min(text.find(',', begin), text.size());
    pieces.push_back(without_spaces_around(text.substr(begin, end - begin)));
    begin = end + 1;
  }
  return pieces;
}

/// The whole text as a number; none: it is something else, or not finite.
std::optional<double> finite_number(const std::string& text) {
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || !std::isfinite(value)) return std::nullopt;
  return value;
}

void parse_piece(const std::string& piece, CorpusList& list) {
  const std::size_t colon = piece.find(':');
  const std::string path = piece.substr(0, colon);
  const std::string weight = colon == std::string::npos ? "" : piece.substr(colon + 1);
  const auto value = finite_number(weight);
  if (path.empty() || weight.empty()) {
    list.faults.push_back(fmt::format("data.corpus: '{}' is not PATH:WEIGHT: {}", piece, kMixtureForm));
  } else if (!value || *value <= 0) {
    list.faults.push_back(
        fmt::format("data.corpus: '{}' has the weight {}, allowed are finite numbers > 0: {}", piece, weight,
                    kMixtureForm));
  } else {
    list.parts.push_back({path, *value});
  }
}

/// Faults between the parts.
void check_parts(CorpusList& list) {
  double all = 0;
  for (const CorpusPart& part : list.parts) all += part.weight;
  if (!std::isfinite(all)) list.faults.emplace_back("data.corpus: the sum of the weights is not finite");
  for (std::size_t i = 0; i < list.parts.size(); ++i) {
    const CorpusPart& part = list.parts[i];
    if (std::isfinite(all) && part.weight < kSmallestShare * all) {
      list.faults.push_back(
          fmt::format("data.corpus: the weight {} of {} is {} of all weights, at least {} is "
                      "allowed: leave it out",
                      part.weight, part.path, part.weight / all, kSmallestShare));
    }
    const auto same = [&](const CorpusPart& other) {
      return std::filesystem::path(other.path).lexically_normal() ==
             std::filesystem::path(part.path).lexically_normal();
    };
    if (std::any_of(list.parts.begin(), list.parts.begin() + static_cast<std::ptrdiff_t>(i), same)) {
      list.faults.push_back(
          fmt::format("data.corpus: {} is given twice; give it once with the sum of its weights", part.path));
    }
  }
}

}  // namespace

CorpusList parse_corpora(const std::string& text) {
  if (text.find_first_of(":,") == std::string::npos) return {.parts = {{text, 1}}, .faults = {}};
  CorpusList list;
  for (const std::string& piece : pieces_between_commas(text)) parse_piece(piece, list);
  check_parts(list);
  return list;
}

}  // namespace sluice::train
