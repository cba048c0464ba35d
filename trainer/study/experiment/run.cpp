#include "trainer/study/experiment/run.h"

#include <fmt/format.h>
#include <xxhash.h>

#include <algorithm>
#include <cctype>

namespace sluice::study {
namespace {

/// A name as a directory may be called.
std::string plain(std::string name) {
  std::ranges::replace_if(
      name, [](unsigned char c) { return std::isalnum(c) == 0 && c != '.' && c != '_'; }, '_');
  return name;
}

}  // namespace

const char* role_name(Role role) {
  switch (role) {
    case Role::kRun:
      return "run";
    case Role::kTrunk:
      return "trunk";
    case Role::kBranch:
      return "branch";
    case Role::kTuning:
      return "tuning";
    case Role::kSpeed:
      return "speed";
  }
  return "";
}

std::string Run::title() const {
  if (role == Role::kSpeed) return fmt::format("{} {}, {}, {} rank(s)", family, model, mode, ranks);
  const auto lr = values.find("optim.lr");
  return fmt::format("{} {}, seed {}, {} tokens{}", family, model, seed, tokens(),
                     lr == values.end() ? "" : ", optim.lr " + lr->second);
}

std::string run_id(const std::string& family, const std::string& model, const Run& run) {
  std::string text;
  for (const auto& [key, value] : run.values) text += key + "=" + value + "\n";
  if (run.role == Role::kSpeed) text += fmt::format("mode={}\n", run.mode);
  if (run.ranks > 1) text += fmt::format("ranks={}\n", run.ranks);
  constexpr std::uint64_t kTenDigits = (std::uint64_t{1} << 40) - 1;
  return fmt::format("{}-{}-{:010x}", plain(family), plain(model),
                     XXH3_64bits(text.data(), text.size()) & kTenDigits);
}

std::string checkpoint_name(std::int64_t step) { return fmt::format("checkpoints/step-{:06}", step); }

}  // namespace sluice::study
