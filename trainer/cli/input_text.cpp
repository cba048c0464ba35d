#include "trainer/cli/input_text.h"

#include <fmt/format.h>

#include <algorithm>
#include <system_error>

#include "trainer/train/errors.h"
#include "trainer/train/files.h"

namespace sluice::cli {

std::string read_input(const std::filesystem::path& file, const std::string& named) {
  try {
    return train::read_file(file);
  } catch (const std::system_error& error) {
    throw train::InputError(fmt::format("{}: cannot be read ({})", named, error.code().message()));
  }
}

std::vector<std::string> split_at(const std::string& text, char separator) {
  std::vector<std::string> pieces;
  if (text.empty()) return pieces;
  for (std::size_t begin = 0; begin <= text.size();) {
    const auto end = std::min(text.find(separator, begin), text.size());
    pieces.push_back(text.substr(begin, end - begin));
    begin = end + 1;
  }
  return pieces;
}

}  // namespace sluice::cli
