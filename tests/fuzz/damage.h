#pragma once

#include <cstdint>
#include <filesystem>
#include <random>
#include <string>
#include <vector>

namespace sluice {

/// What was done to a file, for the message of a failing case.
struct Damage {
  std::filesystem::path file;
  std::string what;
};

/// Every regular file below `directory`, sorted.
[[nodiscard]] std::vector<std::filesystem::path> files_below(const std::filesystem::path& directory);

/// Flips a bit, overwrites, cuts, inserts into or empties one file below `directory`, drawn from `random`.
[[nodiscard]] Damage damage_one_file(const std::filesystem::path& directory, std::mt19937_64& random);

/// The same on a text in memory.
[[nodiscard]] std::string damaged(std::string content, std::mt19937_64& random, std::string& what);

}  // namespace sluice
