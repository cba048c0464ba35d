#include "trainer/train/resume_ground.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <map>
#include <sstream>

#include "trainer/train/product_choice.h"

namespace sluice::train {

namespace {

/// The build's lines, "LibTorch   2.11.0, CPU AVX512", by their first word. Those that list the machine's
/// GPUs say nothing of what the run computes on.
std::map<std::string, std::string> parts_of(const std::string& build) {
  std::map<std::string, std::string> parts;
  std::istringstream in(build);
  for (std::string line; std::getline(in, line);) {
    const std::string name = line.substr(0, line.find(' '));
    const auto value = line.find_first_not_of(' ', name.size());
    if (name != "GPU") parts[name] = value == std::string::npos ? "" : line.substr(value);
  }
  return parts;
}

std::string or_none(const std::map<std::string, std::string>& parts, const std::string& name) {
  const auto found = parts.find(name);
  return found == parts.end() ? "none" : found->second;
}

/// Names of both sides whose values differ: "NAME now NEW, was OLD".
void compare(const std::map<std::string, std::string>& before, const std::map<std::string, std::string>& now,
             std::vector<std::string>& differences) {
  std::map<std::string, std::string> all = before;
  all.insert(now.begin(), now.end());
  for (const auto& [name, value] : all) {
    const std::string was = or_none(before, name);
    const std::string is = or_none(now, name);
    if (was != is) differences.push_back(fmt::format("{} now {}, was {}", name, is, was));
  }
}

std::map<std::string, std::string> as_text(const std::map<std::string, std::int64_t>& choices) {
  std::map<std::string, std::string> text;
  for (const auto& [name, value] : choices) text[name] = std::to_string(value);
  return text;
}

}  // namespace

std::vector<std::string> ground_differences(const CheckpointInfo& before, const CheckpointInfo& now) {
  std::vector<std::string> differences;
  if (!before.device.empty() && before.device != now.device)
    differences.push_back(fmt::format("device now {}, was {}", now.device, before.device));
  if (before.world_size != now.world_size)
    differences.push_back(fmt::format("ranks now {}, were {}", now.world_size, before.world_size));
  if (!before.build.empty()) compare(parts_of(before.build), parts_of(now.build), differences);
  if (!before.choices.empty()) compare(as_text(before.choices), as_text(now.choices), differences);
  if (before.products && before.products != now.products) {
    differences.push_back(fmt::format("linear products now {}, were {}",
                                      product_summary(now.products.value_or("")),
                                      product_summary(*before.products)));
  }
  return differences;
}

std::string ground_warning(const CheckpointInfo& before, const CheckpointInfo& now) {
  const std::vector<std::string> differences = ground_differences(before, now);
  if (differences.empty()) return {};
  return fmt::format(
      "goes on from {}, but not bit for bit, which is promised for equal build, GPU model, number of ranks "
      "and "
      "choices: {}",
      before.directory.filename().string(), fmt::join(differences, "; "));
}

}  // namespace sluice::train
