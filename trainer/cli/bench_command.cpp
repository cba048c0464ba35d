#include <fmt/format.h>

#include <algorithm>
#include <vector>

#include "trainer/cli/bench.h"
#include "trainer/cli/command.h"
#include "trainer/cli/option_table.h"
#include "trainer/train/errors.h"

namespace sluice::cli {
namespace {

const std::vector<BenchPart>& parts() {
  static const std::vector<BenchPart> all = {bench_step(),      bench_loader(),   bench_generate(),
                                             bench_allreduce(), bench_exchange(), bench_checkpoint(),
                                             bench_kernels(),   bench_peak(),     bench_calibrate()};
  return all;
}

/// `--calibrate FILE` as `calibrate --out FILE`.
std::vector<std::string> spelled_out(std::vector<std::string> words) {
  const std::string flag = "--calibrate";
  if (words.empty() || words.front().substr(0, words.front().find('=')) != flag) return words;
  words.front() = "--out" + words.front().substr(flag.size());
  words.insert(words.begin(), "calibrate");
  return words;
}

int run_bench(const std::vector<std::string>& given, parallel::Communicator& world) {
  const std::vector<std::string> words = spelled_out(given);
  std::string names;
  for (const auto& part : parts()) {
    if (!words.empty() && words.front() == part.name)
      return part.run({words.begin() + 1, words.end()}, world);
    names += (names.empty() ? "" : ", ") + part.name;
  }
  throw train::InputError(fmt::format("sluice bench{}{}: what to measure must be one of {}",
                                      words.empty() ? "" : " ", words.empty() ? "" : words.front(), names));
}

std::string help() {
  std::string text;
  for (const auto& part : parts()) text += fmt::format("  sluice bench {:<11}{}\n", part.name, part.summary);
  for (const auto& part : parts()) text += fmt::format("\nsluice bench {}\n\n{}", part.name, part.help);
  return text;
}

}  // namespace

BenchWords split_words(const std::vector<Flag>& own, const std::vector<std::string>& words) {
  BenchWords out;
  for (std::size_t i = 0; i < words.size(); ++i) {
    const std::string name = words[i].substr(0, words[i].find('='));
    const auto flag = std::find_if(own.begin(), own.end(), [&](const Flag& one) { return one.name == name; });
    auto& side = flag == own.end() ? out.settings : out.own;
    side.push_back(words[i]);
    const bool value_follows = flag != own.end() && !flag->value_name.empty() && name == words[i];
    if (value_follows && i + 1 < words.size()) side.push_back(words[++i]);
  }
  return out;
}

train::RunOptions bench_options(const std::vector<std::string>& settings) {
  train::RunOptions options = parse_run_options(
      settings,
      fmt::format("[run]\ndir = (none)\n[data]\ncorpus = {}\n[train]\nsteps = 1000000\n", kNoCorpus));
  if (options.data.corpus == kNoCorpus) options.data.corpus.clear();
  return options;
}

Command bench_command() {
  return {
      .name = "bench",
      .summary =
          "measure a training step, the loader, generation, collectives, checkpoints, kernels, what a device "
          "reaches, or all that sluice plan needs",
      .help = help(),
      .run = run_bench,
      .ranks = Ranks::kMany};
}

}  // namespace sluice::cli
