#include "trainer/cli/command.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdio>

#include "trainer/cli/arguments.h"
#include "trainer/cli/option_table.h"
#include "trainer/cli/version.h"
#include "trainer/train/errors.h"

namespace sluice::cli {

// A command is a file with one of these functions, and a line in commands().
Command bench_command();
Command completion_command();
Command doctor_command();
Command eval_command();
Command export_command();
Command fit_command();
Command generate_command();
Command import_command();
Command inspect_command();
Command plan_command();
Command prepare_command();
Command reference_command();
Command report_command();
Command study_command();
Command submit_command();
Command train_command();
Command verify_command();

std::span<const Command> commands() {
  static const std::vector<Command> all = {
      prepare_command(),   inspect_command(),    verify_command(), train_command(),  eval_command(),
      generate_command(),  import_command(),     export_command(), report_command(), study_command(),
      fit_command(),       submit_command(),     plan_command(),   bench_command(),  doctor_command(),
      reference_command(), completion_command(),
  };
  return all;
}

namespace {

constexpr const char* kExitCodes[][2] = {
    {"0", "done"},
    {"1", "a fault of the run; `verify`, `doctor`: something is wrong"},
    {"2", "bad input: every fault is named, nothing was done"},
    {"75", "stopped early by a signal, after a checkpoint: the same command goes on from there"},
};

const Command& find_command(const std::string& name) {
  const auto all = commands();
  const auto found =
      std::find_if(all.begin(), all.end(), [&](const Command& one) { return one.name == name; });
  if (found != all.end()) return *found;
  std::vector<std::string> names{"--help", "--version"};
  for (const auto& one : all) names.push_back(one.name);
  const auto near = nearest(name, names);
  throw train::InputError(
      fmt::format("{}: unknown command; {}", name,
                  near.empty() ? "`sluice --help` lists them" : "did you mean " + near + "?"));
}

void print(const std::string& text, const parallel::Communicator& world) {
  if (world.rank() == 0) std::fputs(text.c_str(), stdout);
}

}  // namespace

std::string general_help() {
  std::string text =
      "sluice: trains gMLP language models on many ranks\n\n"
      "  sluice COMMAND ...         alone, or under mpirun for train, eval, bench and doctor\n"
      "  sluice COMMAND --help      what a command takes\n"
      "  sluice --version           versions of this program and of every library it found\n\nCommands\n";
  for (const auto& command : commands()) text += fmt::format("  {:<10} {}\n", command.name, command.summary);
  text += "\nExit codes\n";
  for (const auto& [code, meaning] : kExitCodes) text += fmt::format("  {:<10} {}\n", code, meaning);
  return text;
}

std::string reference_markdown() {
  std::string text =
      "# Reference\n\nEvery command, key and exit code. Written by `sluice reference`; a test compares the "
      "two.\n"
      "\n## Exit codes\n\n| code | meaning |\n|---|---|\n";
  for (const auto& [code, meaning] : kExitCodes) text += fmt::format("| {} | {} |\n", code, meaning);
  text += "\n## Commands\n";
  for (const auto& command : commands()) {
    text +=
        fmt::format("\n### sluice {}\n\n{}.\n\n```\n{}```\n", command.name, command.summary, command.help);
  }
  text +=
      "\n## Settings of a run\n\nA setting is `key = value` under its `[section]` in a file given with "
      "`--config FILE...`, "
      "or\n`--section.key=value` on the command line. The command line wins over files, a later file over "
      "an\nearlier one. "
      "Whole numbers may be written as `1e9`. \"On resume\" says what a change means when a run\ngoes on "
      "from a "
      "checkpoint: `train.steps` may change under the schedules constant and noam, and under\nwsd before its "
      "decay.\n";
  return text + option_reference_markdown();
}

int dispatch(const std::vector<std::string>& words, parallel::Communicator& world) {
  if (words.empty()) throw train::InputError("no command given; `sluice --help` lists them");
  if (words.front() == "--help" || words.front() == "help") {
    print(general_help(), world);
    return kDone;
  }
  if (words.front() == "--version" || words.front() == "version") {
    print(version_text(), world);
    return kDone;
  }
  const auto& command = find_command(words.front());
  const std::vector<std::string> rest(words.begin() + 1, words.end());
  if (std::find(rest.begin(), rest.end(), "--help") != rest.end()) {
    print(fmt::format("sluice {}: {}\n\n{}", command.name, command.summary, command.help), world);
    return kDone;
  }
  if (command.ranks == Ranks::kOne && world.size() > 1) {
    throw train::InputError(fmt::format("{}: runs as one process, and was started as {}: leave mpirun away",
                                        command.name, world.size()));
  }
  return command.run(rest, world);
}

void end_job_on_fault(parallel::Communicator& world, const std::function<void()>& work) {
  try {
    work();
  } catch (const std::exception& error) {
    if (world.size() == 1) throw;
    std::fprintf(stderr, "sluice: rank %d: %s\n", static_cast<int>(world.rank()), error.what());
    world.abort(kFault);
  }
}

}  // namespace sluice::cli
