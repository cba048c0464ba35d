#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <iterator>
#include <string>
#include <vector>

#include "trainer/cli/arguments.h"
#include "trainer/cli/bench.h"
#include "trainer/cli/cluster_file.h"
#include "trainer/cli/command.h"
#include "trainer/cli/input_text.h"
#include "trainer/cli/number.h"
#include "trainer/cli/option_table.h"
#include "trainer/cli/output.h"
#include "trainer/cli/plan_report.h"
#include "trainer/cli/plan_search.h"
#include "trainer/cli/plan_workload.h"
#include "trainer/train/errors.h"

namespace sluice::cli {
namespace {

const std::vector<Flag> kPlanFlags = {
    {.name = "--cluster",
     .value_name = "FILE",
     .help = "the cluster's file: of sluice bench calibrate, or like it",
     .required = true},
    {.name = "--gpus", .value_name = "N,...", .help = "ranks: of GPUs, or on CPUs", .default_value = "1"},
    {.name = "--weak", .help = "train.global_batch is that of one rank, and grows with them"},
    {.name = "--tokens",
     .value_name = "T",
     .help = "tokens that the costs are for; default: those of the file, else 1e9"},
    {.name = "--vocabulary", .value_name = "V", .help = "ids of the tokenizer", .default_value = "257"},
    {.name = "--sp",
     .value_name = "N,...",
     .help = "ranks for each sequence; default: powers of two, on GPUs 1"},
    {.name = "--zero", .value_name = "N,...", .help = "parallel.zero; default: 0,1"},
    {.name = "--recompute", .value_name = "NAME,...", .help = "train.recompute; default: none,gate,block"},
    {.name = "--micro", .value_name = "N,...", .help = "train.micro_batch; default: powers of two"},
    {.name = "--show",
     .value_name = "K",
     .help = "ways of each number of ranks that are shown",
     .default_value = "3"},
    json_flag()};

std::vector<std::int64_t> numbers_of(const Arguments& arguments, const std::string& flag,
                                     const Bounds& bounds) {
  std::vector<std::int64_t> numbers;
  for (const std::string& word : split_at(arguments.text(flag), ',')) {
    const auto number = parse_integer(word);
    if (!number || !bounds.contains(static_cast<double>(*number)))
      throw train::InputError(fmt::format("{} {}: '{}' must be a whole number, {}", flag,
                                          arguments.text(flag), word, describe(bounds)));
    numbers.push_back(*number);
  }
  return numbers;
}

PlanChoices choices_of(const Arguments& arguments) {
  const Bounds count{1, 1e6};
  PlanChoices choices{.sp = numbers_of(arguments, "--sp", count),
                      .zero = numbers_of(arguments, "--zero", {0, 1}),
                      .recompute = split_at(arguments.text("--recompute"), ','),
                      .micro_batch = numbers_of(arguments, "--micro", count)};
  for (const std::string& word : choices.recompute)
    if (word != "none" && word != "gate" && word != "block")
      throw train::InputError(fmt::format("--recompute {}: '{}' must be none, gate or block",
                                          arguments.text("--recompute"), word));
  return choices;
}

/// The settings of MODEL.ini, with the cluster's device and precision where it says nothing of them.
train::RunOptions plan_options(const std::string& file, const std::vector<std::string>& settings,
                               const study::plan::Cluster& cluster) {
  (void)read_model_file(file);  // told as it is elsewhere
  std::vector<std::string> words{"--config", file};
  words.insert(words.end(), settings.begin(), settings.end());
  return parse_run_options(
      words,
      fmt::format(
          "[run]\ndir = (none)\n[data]\ncorpus = (no corpus)\n[train]\nsteps = 1000000\nprecision = {}\n",
          cluster.gpu.precision));
}

double tokens_of(const Arguments& arguments, const std::string& file,
                 const std::vector<std::string>& settings) {
  constexpr double kDefault = 1e9;
  if (arguments.has("--tokens")) return arguments.number("--tokens", 1, 1e18);
  const auto given = parse_partial_options(read_model_file(file), file, settings);
  const auto steps = static_cast<double>(given.train.steps);
  return steps > 0 ? steps * static_cast<double>(given.train.global_batch * given.model.seq_len) : kDefault;
}

/// Neither a flag of the plan nor a setting.
bool is_wrong_flag(const std::string& word) {
  const std::string name = word.substr(0, word.find('='));
  return name.starts_with("--") && name != "--config" && name.find('.') == std::string::npos;
}

int run_plan(const std::vector<std::string>& words, parallel::Communicator&) {
  if (words.empty() || words.front().starts_with("--"))
    throw train::InputError("MODEL.ini: must come first, a settings file with [model]");
  const std::string& file = words.front();
  BenchWords both = split_words(kPlanFlags, {words.begin() + 1, words.end()});
  std::ranges::copy_if(both.settings, std::back_inserter(both.own), is_wrong_flag);  // told with the nearest
  const Arguments arguments(kPlanFlags, both.own);
  const auto cluster = read_cluster(arguments.text("--cluster"));
  const auto options = plan_options(file, both.settings, cluster);
  check_same_device(options, cluster);
  PlanReport report{.model = file,
                    .cluster = cluster,
                    .vocabulary_size = arguments.integer("--vocabulary", 2, 1 << 30),
                    .tokens = tokens_of(arguments, file, both.settings),
                    .shown = arguments.integer("--show", 1, 1'000'000),
                    .plans = {}};
  const PlanChoices choices = choices_of(arguments);
  for (const std::int64_t ranks : numbers_of(arguments, "--gpus", {1, 1e6})) {
    train::RunOptions at = options;
    if (arguments.has("--weak")) at.train.global_batch *= ranks;
    report.plans.push_back({.ranks = ranks,
                            .global_batch = at.train.global_batch,
                            .candidates = search_plans(at, report.vocabulary_size, ranks, cluster, choices)});
  }
  if (arguments.has("--json"))
    std::puts(plan_json(report).c_str());
  else
    std::fputs(plan_lines(report).c_str(), stdout);
  const bool all_fit = std::ranges::all_of(
      report.plans, [](const RankPlan& plan) { return plan.candidates.front().step.has_value(); });
  return all_fit ? kDone : kFault;
}

}  // namespace

Command plan_command() {
  return {
      .name = "plan",
      .summary = "predict step time, memory and cost on any number of ranks, and the best way to run there",
      .help =
          "  sluice plan MODEL.ini --cluster FILE [--gpus 1,8,64] [--weak] [--tokens T] "
          "[--section.key=value ...] [--json]\n\n"
          "What is predicted from what: docs/plan.md. Rates and links come from the cluster's file, which\n"
          "`sluice bench calibrate` writes; what is said of more ranks than it measured is extrapolated.\n"
          "Exit code 1: on some number of ranks nothing fits.\n\n" +
          flag_help(kPlanFlags) + "\nKeys of the cluster's file\n" + cluster_keys_help(),
      .run = run_plan};
}

}  // namespace sluice::cli
