#include "trainer/cli/place.h"

#include <algorithm>

#include "trainer/train/errors.h"

namespace sluice::cli {

namespace fs = std::filesystem;

Place place_of(const fs::path& path) {
  if (!fs::exists(path)) throw train::InputError(path.string() + ": no such directory");
  if (fs::exists(path / "corpus.json")) return Place::kCorpus;
  if (fs::exists(path / "manifest.json") || fs::exists(path / "model.safetensors")) return Place::kCheckpoint;
  if (fs::exists(path / "resolved.ini") || fs::exists(path / "checkpoints")) return Place::kRun;
  if (fs::exists(path / "tokenizer.json")) return Place::kTokenizer;
  throw train::InputError(
      path.string() +
      ": neither a corpus (corpus.json), a checkpoint (manifest.json), a run (resolved.ini) nor a "
      "tokenizer (tokenizer.json)");
}

std::vector<fs::path> checkpoints_of(const fs::path& run) {
  std::vector<fs::path> found;
  if (!fs::is_directory(run / "checkpoints")) return found;
  for (const auto& entry : fs::directory_iterator(run / "checkpoints")) {
    if (entry.is_directory() && !entry.is_symlink() &&
        entry.path().filename().string().starts_with("step-")) {
      found.push_back(entry.path());
    }
  }
  std::sort(found.begin(), found.end(), [](const fs::path& a, const fs::path& b) {
    const auto left = a.filename().string();
    const auto right = b.filename().string();
    return left.size() != right.size() ? left.size() < right.size() : left < right;
  });
  return found;
}

}  // namespace sluice::cli
