#pragma once

#include <filesystem>
#include <string>
#include <vector>

// Small pieces of what users write: a file that they name, a list with separators.

namespace sluice::cli {

/// The file's bytes. Throws train::InputError "NAMED: cannot be read (reason)"; `named`: as the user said it,
/// "--cluster site.ini".
[[nodiscard]] std::string read_input(const std::filesystem::path& file, const std::string& named);

/// What stands between the separators, empty pieces too; of an empty text nothing.
[[nodiscard]] std::vector<std::string> split_at(const std::string& text, char separator);

}  // namespace sluice::cli
