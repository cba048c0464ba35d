#include "trainer/cli/batch_script.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <string_view>

#include "trainer/cli/number.h"
#include "trainer/train/errors.h"

namespace sluice::cli {
namespace {

constexpr std::int64_t kMostElements = 100000;

std::string sbatch_lines(const Site& site, const BatchJob& job) {
  const auto nodes = nodes_for(job.ranks, site.ranks_per_node);
  const std::vector<std::string> options{
      fmt::format("--job-name=\"{}\"", job.name),
      fmt::format("--nodes={}", nodes),
      fmt::format("--ntasks={}", job.ranks),
      fmt::format("--ntasks-per-node={}", job.ranks / nodes),
      fmt::format("--time={}", job.time),
      fmt::format("--signal={}USR1@{}", site.signal_steps ? "" : "B:", site.lead_s),
      site.requeue ? "--requeue" : "--no-requeue",
      "--open-mode=append",
      fmt::format("--output=\"{}\"", (job.run / "submit.log").string()),
      fmt::format("--chdir=\"{}\"", job.directory.string())};
  std::string text;
  for (const auto& option : options) text += "#SBATCH " + option + "\n";
  for (const auto& line : site.sbatch) text += line + "\n";
  return text;
}

/// Where the run is, and for an element of an array its own log: Slurm's own lines stay in the array's.
std::string run_lines(const BatchJob& job) {
  if (!job.array) return fmt::format("run=\"{}\"\n", job.run.string());
  const std::string log = "exec >>\"$run/submit.log\" 2>&1\n";
  const std::string element = "$((${1:-0} + SLURM_ARRAY_TASK_ID))";
  if (job.names.empty()) return fmt::format("run=\"{}/{}\"\n{}", job.run.string(), element, log);
  return fmt::format("runs=({})\nrun=\"{}/${{runs[{}]}}\"\n{}", fmt::join(job.names, " "), job.run.string(),
                     element, log);
}

}  // namespace

std::string batch_script(const Site& site, const BatchJob& job) {
  const auto nodes = nodes_for(job.ranks, site.ranks_per_node);
  const auto train = fmt::format("\"{}\" train --config \"$run/submit.ini\"", job.program.string());
  const auto launch =
      job.command.empty()
          ? fill_launch(
                site.launch,
                {.ranks = job.ranks, .nodes = nodes, .ranks_per_node = job.ranks / nodes, .command = train})
          : job.command;
  std::string text = "#!/usr/bin/env bash\n# Written by `sluice submit`, which writes it anew each time.\n";
  text += sbatch_lines(site, job) + "\n" + run_lines(job);
  for (const auto& line : site.prologue) text += line + "\n";
  text += fmt::format("\nsluice_requeue={}\n{}\nsluice_job \"$run\" {}\n", site.requeue ? "yes" : "no",
                      job_script_text(), launch);
  return text;
}

std::int64_t nodes_for(std::int64_t ranks, std::int64_t ranks_per_node) {
  if (ranks <= ranks_per_node) return 1;
  if (ranks % ranks_per_node == 0) return ranks / ranks_per_node;
  const auto below = ranks - ranks % ranks_per_node;
  throw train::InputError(fmt::format(
      "--ranks = {}: must be at most launch.ranks_per_node = {} or a multiple of it; near are {} and {}",
      ranks, ranks_per_node, below, below + ranks_per_node));
}

std::vector<SbatchCall> sbatch_calls(const Site& site, const std::filesystem::path& script,
                                     std::int64_t elements) {
  const std::vector<std::string> begin{"sbatch", "--parsable"};
  std::vector<SbatchCall> calls;
  if (elements == 0) {
    calls.push_back({.words = begin});
    calls.back().words.push_back(script.string());
  }
  for (std::int64_t first = 0; first < elements; first += site.array) {
    const auto last = std::min(site.array, elements - first) - 1;
    SbatchCall call{.words = begin, .waits = first > 0 && site.running > 0};
    call.words.push_back(
        fmt::format("--array=0-{}{}", last, site.running > 0 ? fmt::format("%{}", site.running) : ""));
    call.words.push_back(script.string());
    call.words.push_back(std::to_string(first));
    calls.push_back(std::move(call));
  }
  return calls;
}

std::vector<std::string> with_dependency(std::vector<std::string> words, const std::string& before) {
  words.insert(words.begin() + 1, "--dependency=afterany:" + before);
  return words;
}

bool is_plain_path(const std::string& path) {
  return std::ranges::all_of(path, [](char c) {
    return static_cast<unsigned char>(c) >= 0x20 &&
           std::string_view("\"'\\%$`").find(c) == std::string_view::npos;
  });
}

Sweep parse_sweep(const std::string& word) {
  const auto equals = word.find('=');
  if (equals == std::string::npos || equals == 0 || equals + 1 == word.size()) {
    throw train::InputError(
        fmt::format("--array {}: must be KEY=VALUE,VALUE,... or KEY=FIRST..LAST, like run.seed=1..8; values "
                    "that have commas "
                    "themselves are separated by ;",
                    word));
  }
  return {.key = word.substr(0, equals), .values = sweep_values("--array " + word, word.substr(equals + 1))};
}

std::vector<std::string> sweep_values(const std::string& what, const std::string& text) {
  std::vector<std::string> values;
  const auto dots = text.find("..");
  if (dots != std::string::npos && text.find_first_of(",;/") == std::string::npos) {  // "../a" is a path
    const auto first = parse_integer(text.substr(0, dots));
    const auto last = parse_integer(text.substr(dots + 2));
    if (!first || !last || *last < *first || *last - *first >= kMostElements) {
      throw train::InputError(fmt::format(
          "{}: FIRST..LAST must be whole numbers, rising, and at most {} of them", what, kMostElements));
    }
    for (auto value = *first; value <= *last; ++value) values.push_back(std::to_string(value));
    return values;
  }
  if (text.find(';') == std::string::npos && text.find(',') != std::string::npos &&
      text.find(':') != std::string::npos) {
    throw train::InputError(
        fmt::format("{}: is it one mixture or several values? Separate values by ;, like "
                    "'data.corpus=a:3,b:1;c', and end a single one with it",
                    what));
  }
  const char separator = text.find(';') == std::string::npos ? ',' : ';';
  for (std::size_t begin = 0; begin <= text.size();) {
    const auto end = std::min(text.find(separator, begin), text.size());
    values.push_back(text.substr(begin, end - begin));
    begin = end + 1;
  }
  if (separator == ';' && values.back().empty()) values.pop_back();  // "a,b;" is one value
  return values;
}

std::vector<std::vector<std::string>> combinations(const std::vector<Sweep>& sweeps) {
  std::vector<std::vector<std::string>> elements{{}};
  for (const auto& sweep : sweeps) {
    std::vector<std::vector<std::string>> longer;
    for (const auto& element : elements) {
      for (const auto& value : sweep.values) {
        longer.push_back(element);
        longer.back().push_back(fmt::format("--{}={}", sweep.key, value));
      }
    }
    elements = std::move(longer);
    if (elements.size() > static_cast<std::size_t>(kMostElements)) {
      throw train::InputError(
          fmt::format("--array: {} combinations or more; at most {} can be", elements.size(), kMostElements));
    }
  }
  return elements;
}

}  // namespace sluice::cli
