#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace sluice::cli {

// What Boost.Program_options reads, without its types. Words and lines are handed to it one group at a time,
// so that one fault does not hide the next, and so that a line of a file has its number.

enum class Takes { kNothing, kOne, kMany, kOptional };

struct KnownWord {
  std::string name;  ///< without the leading dashes
  Takes takes = Takes::kOne;
};

enum class WordKind { kKnown, kUnknown, kPositional, kMalformed };

struct ParsedWord {
  WordKind kind = WordKind::kKnown;
  std::string name;                 ///< without dashes; empty for positional words
  std::vector<std::string> values;  ///< kPositional: the one word
  std::string fault;                ///< kMalformed: "needs a value", ...
};

/// A command line: "--name=value", "--name value", "--name a b c" where many are taken. No abbreviations, no
/// short forms. A word that follows a known or unknown name and is not taken by it comes back as positional.
[[nodiscard]] std::vector<ParsedWord> parse_words(const std::vector<KnownWord>& known,
                                                  const std::vector<std::string>& words);

struct ParsedLine {
  std::int64_t line = 0;  ///< counted from 1
  std::string key;        ///< "section.key"
  std::string value;
  std::string fault;  ///< not empty: the line is neither a section nor a setting nor a comment
};

/// An INI file: [section], key = value, # comments.
[[nodiscard]] std::vector<ParsedLine> parse_ini(const std::string& text);

/// "1.74"
[[nodiscard]] std::string boost_version();

}  // namespace sluice::cli
