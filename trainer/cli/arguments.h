#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace sluice::cli {

/// A flag of a subcommand other than train. value_name empty: the flag takes none. many: takes all words up
/// to the next flag.
struct Flag {
  std::string name{};        ///< "--input"
  std::string value_name{};  ///< "FILE"
  std::string help{};
  bool required = false;
  bool many = false;
  std::string default_value{};
};

/// Whole numbers begin ... end - 1, 0 <= begin <= end.
struct IndexRange {
  std::int64_t begin = 0;
  std::int64_t end = 0;
};

/// Parsed flags of one call. All faults (unknown flag with the nearest one, missing, duplicate) are thrown
/// together as train::InputError. Built on Boost.Program_options.
class Arguments {
 public:
  /// `positional_name` empty: no word without a flag is allowed; otherwise exactly one is ("PATH"), at most
  /// one
  /// ("[PATH]"), or one and more ("PATH...").
  Arguments(const std::vector<Flag>& flags, const std::vector<std::string>& words,
            const std::string& positional_name = "");

  /// Whether the flag was given (a default does not count).
  [[nodiscard]] bool has(const std::string& flag) const;
  /// Its value, or its default; the last one where many were given.
  [[nodiscard]] std::string text(const std::string& flag) const;
  [[nodiscard]] std::vector<std::string> list(const std::string& flag) const;
  /// Throws InputError naming the flag, its value and what is allowed.
  [[nodiscard]] std::int64_t integer(const std::string& flag, std::int64_t low, std::int64_t high) const;
  [[nodiscard]] double number(const std::string& flag, double low, double high) const;
  /// Written A:B; else InputError.
  [[nodiscard]] IndexRange range(const std::string& flag) const;
  /// One of `choices`, else InputError.
  [[nodiscard]] std::string choice(const std::string& flag, const std::vector<std::string>& choices) const;
  [[nodiscard]] const std::vector<std::string>& positional() const { return positional_; }

 private:
  struct Value {
    std::string flag;
    std::vector<std::string> words;
  };
  [[nodiscard]] const Flag* find_flag(const std::string& name) const;
  [[nodiscard]] const Value* find_value(const std::string& name) const;
  void read_words(const std::vector<std::string>& words, std::vector<std::string>& faults);
  void check(const std::string& positional_name, std::vector<std::string>& faults) const;

  std::vector<Flag> flags_;
  std::vector<Value> values_;
  std::vector<std::string> positional_;
};

/// The help text of a list of flags.
[[nodiscard]] std::string flag_help(const std::vector<Flag>& flags);
/// The known word nearest to `word` by edit distance, or "" if none is near. A word that ends like a known
/// key
/// ("lr", "train.lr") is near to it ("optim.lr").
[[nodiscard]] std::string nearest(const std::string& word, const std::vector<std::string>& known);

}  // namespace sluice::cli
