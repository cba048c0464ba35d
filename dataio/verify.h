#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace sluice::dataio {

/// Reads a whole corpus: every digest, bound, id range, document offset and count. Returns everything that is
/// wrong, a line each that starts with the file's name; empty when all is well. Never throws for faults of
/// the data.
[[nodiscard]] std::vector<std::string> verify_corpus(const std::filesystem::path& directory);

}  // namespace sluice::dataio
