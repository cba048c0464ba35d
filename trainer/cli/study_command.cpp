#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <map>
#include <string>
#include <vector>

#include "trainer/cli/arguments.h"
#include "trainer/cli/command.h"
#include "trainer/cli/study_place.h"
#include "trainer/cli/study_run.h"
#include "trainer/cli/study_submit.h"
#include "trainer/train/errors.h"

namespace sluice::cli {
namespace {

using study::Role;
using study::Status;

const std::vector<std::string> kActions{"run", "plan", "status", "collect", "submit"};

const std::vector<Flag> kStudyFlags = {
    {.name = "--jobs", .value_name = "N", .help = "run: runs side by side; default study.jobs"},
    {.name = "--only", .value_name = "ID", .help = "run, submit: these runs alone", .many = true},
    {.name = "--retry", .help = "run, submit: try failed runs again, from their checkpoints"},
    {.name = "--rerun",
     .help = "run, submit: move runs of another version of sluice aside and do them again"},
    {.name = "--dry-run", .help = "run, submit: write study.ini and study.json, print what would be started"},
    {.name = "--launch",
     .value_name = "TEMPLATE",
     .help = "run: how ranks are started, as launch.command of a site's file; for batch jobs"},
    {.name = "--cluster", .value_name = "SITE.ini", .help = "submit: the site's file (docs/clusters.md)"},
    {.name = "--time",
     .value_name = "TIME",
     .help = "submit: time limit of a run; default the site's limits.time"},
    {.name = "--after-round",
     .help =
         "submit: by the job that a round of runs is followed by; stops where the round brought nothing"}};

struct Words {
  std::string file;
  std::string action = "run";
  std::vector<std::string> flags;
};

Words split(const std::vector<std::string>& words) {
  Words out;
  std::size_t next = 0;
  if (next < words.size() && !words[next].starts_with("--")) out.file = words[next++];
  if (next < words.size() && !words[next].starts_with("--")) out.action = words[next++];
  out.flags.assign(words.begin() + static_cast<std::ptrdiff_t>(next), words.end());
  std::vector<std::string> faults;
  if (out.file.empty()) faults.push_back("FILE.ini: not given; sluice study FILE.ini [ACTION]");
  if (std::ranges::count(kActions, out.action) == 0) {
    const auto near = nearest(out.action, kActions);
    faults.push_back(fmt::format(
        "{}: unknown action; {}", out.action,
        near.empty() ? "there are run, plan, status, collect and submit" : "did you mean " + near + "?"));
  }
  if (!faults.empty()) throw train::InputError(faults);
  return out;
}

void print_table(const StudySnapshot& now) {
  for (const auto& one : now.runs) {
    const auto loss = std::isfinite(one.state.loss) ? fmt::format("loss {:.4f}", one.state.loss) : "";
    fmt::print("{:<13} {:<7} {}  {}  {}{}\n", study::status_name(one.state.status),
               study::role_name(one.run.role), one.run.id, one.run.title(), loss, one.state.reason);
  }
}

void print_counts(const StudyPlace& place, const StudySnapshot& now) {
  std::map<Status, std::int64_t> counts;
  double flops = 0;
  for (const auto& one : now.runs) {
    ++counts[one.state.status];
    if (!is_finished(one.state.status)) flops += one.run.work();
  }
  fmt::print("{}: {} runs known", place.spec().name, now.runs.size());
  for (const auto& [status, count] : counts) fmt::print(", {} {}", count, study::status_name(status));
  if (now.undecided > 0) fmt::print("; {} more when tuning has ended", now.undecided);
  if (flops > 0) fmt::print("; {:.3g} useful FLOPs to go", flops);
  fmt::print("\n");
  for (const auto& one : now.runs) {
    if (one.state.status == Status::kFailed)
      fmt::print("failed: {}  {}: {}\n", one.run.id, one.run.title(), one.state.reason);
  }
  if (counts[Status::kFailed] > 0) fmt::print("--retry tries them again; their logs: RUN/submit.log\n");
  if (counts[Status::kOtherVersion] > 0)
    fmt::print("{} of another version of sluice, collected as they are; --rerun does them again\n",
               counts[Status::kOtherVersion]);
}

void check_only(const StudySnapshot& now, const std::vector<std::string>& only) {
  std::vector<std::string> ids;
  for (const auto& one : now.runs) ids.push_back(one.run.id);
  std::vector<std::string> faults;
  for (const auto& id : only) {
    if (std::ranges::count(ids, id) > 0) continue;
    const auto near = nearest(id, ids);
    faults.push_back(fmt::format("--only {}: the study has no such run{}", id,
                                 near.empty() ? "" : "; did you mean " + near + "?"));
  }
  if (!faults.empty()) throw train::InputError(faults);
}

int run_locally(const StudyPlace& place, const Arguments& arguments) {
  StudyRunOptions options{
      .jobs = arguments.has("--jobs") ? arguments.integer("--jobs", 1, 4096) : place.spec().jobs,
      .only = arguments.list("--only"),
      .launch = arguments.text("--launch")};
  if (place.spec().kind == study::StudyKind::kSpeed && options.jobs > 1)
    throw train::InputError(fmt::format(
        "--jobs = {}: must be 1 for a speed study; runs side by side would slow each other", options.jobs));
  const int code = run_study(place, options);
  if (!options.only.empty()) return code;
  print_counts(place, place.look());
  fmt::print("collected in {}; sluice report {} makes a page of it\n", place.directory().string(),
             place.directory().string());
  return code;
}

int act(const Words& words, const Arguments& arguments, const StudyPlace& place) {
  const auto before = place.look();
  check_only(before, arguments.list("--only"));
  const bool starts = words.action == "run" || words.action == "submit";
  const bool dry = arguments.has("--dry-run");
  if (starts && !dry) {
    if (arguments.has("--retry")) fmt::print("{} failed run(s) forgotten\n", forget_failures(place));
    if (arguments.has("--rerun")) fmt::print("{} run(s) moved aside\n", move_other_versions(place));
    return words.action == "run" ? run_locally(place, arguments) : submit_study(place, arguments);
  }
  if (starts) {
    place.write(before);
    if (words.action == "submit") return submit_study(place, arguments);
  }
  if (words.action == "collect") {
    place.write(before);
    place.collect(before);
  } else {
    print_table(before);
  }
  print_counts(place, before);
  return kDone;
}

int run_study(const std::vector<std::string>& all, parallel::Communicator&) {
  const auto words = split(all);
  const Arguments arguments(kStudyFlags, words.flags);
  return act(words, arguments, StudyPlace(words.file));
}

}  // namespace

Command study_command() {
  return {
      .name = "study",
      .summary = "run a scaling study: many runs from one file, resumed, collected",
      .help =
          "  sluice study FILE.ini [run] [--jobs N] [--retry] [--rerun] [--dry-run]\n"
          "  sluice study FILE.ini plan|status|collect\n"
          "  sluice study FILE.ini submit --cluster SITE.ini [--time TIME] [--dry-run]\n\n"
          "run (the default) starts what is missing on this machine, side by side, and collects: "
          "points.csv and\n"
          "lr.csv of a loss study, speed.csv of a speed study. The same call again goes on. submit does it "
          "by Slurm\n"
          "jobs. plan prints the runs, status what has become of them, collect writes the tables alone. The "
          "file:\n"
          "docs/studies.md.\n\n" +
          flag_help(kStudyFlags),
      .run = run_study};
}

}  // namespace sluice::cli
