#include "tests/fuzz/damage.h"

#include <algorithm>
#include <fstream>
#include <sstream>

namespace fs = std::filesystem;

namespace sluice {
namespace {

std::size_t below(std::mt19937_64& random, std::size_t bound) {
  return std::uniform_int_distribution<std::size_t>(0, bound - 1)(random);
}

}  // namespace

std::vector<fs::path> files_below(const fs::path& directory) {
  std::vector<fs::path> files;
  for (const auto& entry : fs::recursive_directory_iterator(directory)) {
    if (entry.is_regular_file() && !entry.is_symlink()) files.push_back(entry.path());
  }
  std::ranges::sort(files);
  return files;
}

std::string damaged(std::string content, std::mt19937_64& random, std::string& what) {
  const std::size_t size = content.size();
  const std::size_t at = size == 0 ? 0 : below(random, size);
  const std::size_t count = size == 0 ? 0 : 1 + below(random, std::min<std::size_t>(size - at, 64));
  const auto byte = [&] { return static_cast<char>(below(random, 256)); };
  const std::size_t kind = size == 0 ? 4 : below(random, 6);
  const std::string place = " at byte " + std::to_string(at);
  switch (kind) {
    case 0:
      what = "a bit flipped" + place;
      content[at] = static_cast<char>(content[at] ^ (1 << below(random, 8)));
      break;
    case 1:
      what = std::to_string(count) + " bytes overwritten" + place;
      std::generate_n(content.begin() + static_cast<std::ptrdiff_t>(at), count, byte);
      break;
    case 2:
      what = "cut" + place;
      content.resize(at);
      break;
    case 3:
      what = std::to_string(count) + " bytes removed" + place;
      content.erase(at, count);
      break;
    case 4: {
      what = "a byte inserted" + place;
      content.insert(at, 1, byte());
      break;
    }
    default:
      what = std::to_string(count) + " bytes zeroed" + place;
      std::fill_n(content.begin() + static_cast<std::ptrdiff_t>(at), count, '\0');
      break;
  }
  return content;
}

Damage damage_one_file(const fs::path& directory, std::mt19937_64& random) {
  const auto files = files_below(directory);
  Damage damage{.file = files[below(random, files.size())], .what = {}};
  std::ostringstream content;
  content << std::ifstream(damage.file, std::ios::binary).rdbuf();
  const std::string changed = damaged(content.str(), random, damage.what);
  std::ofstream(damage.file, std::ios::binary | std::ios::trunc) << changed;
  return damage;
}

}  // namespace sluice
