#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <filesystem>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "trainer/cli/arguments.h"
#include "trainer/cli/batch_script.h"
#include "trainer/cli/command.h"
#include "trainer/cli/option_table.h"
#include "trainer/cli/sbatch.h"
#include "trainer/cli/site.h"
#include "trainer/train/corpus_list.h"
#include "trainer/train/errors.h"
#include "trainer/train/files.h"
#include "trainer/train/run_directory.h"

namespace sluice::cli {
namespace {

namespace fs = std::filesystem;

const std::vector<Flag> kSubmitFlags = {
    {.name = "--cluster",
     .value_name = "SITE.ini",
     .help = "the site's file (docs/clusters.md)",
     .required = true},
    {.name = "--ranks",
     .value_name = "N",
     .help = "ranks; more than a node's fill whole nodes",
     .default_value = "1"},
    {.name = "--time",
     .value_name = "TIME",
     .help = "time limit as Slurm writes it; default the site's limits.time"},
    {.name = "--name", .value_name = "NAME", .help = "the job's name; default the last part of run.dir"},
    {.name = "--array",
     .value_name = "KEY=VALUES",
     .help = "one run for each value: optim.lr=1e-3,3e-4 or run.seed=1..8; of several keys each combination; "
             "values with commas by ;: 'data.corpus=a,b;c'",
     .many = true},
    {.name = "--dry-run", .help = "print the script and the calls of sbatch; write and submit nothing"}};

struct Words {
  std::vector<std::string> own;
  std::vector<std::string> settings;
};

/// Words before the first flag are settings files; a word after a flag goes where the flag goes.
Words split(const std::vector<std::string>& words) {
  Words out;
  std::vector<std::string> files;
  auto* side = &files;
  for (const auto& word : words) {
    if (word.starts_with("--")) {
      const auto name = word.substr(0, word.find('='));
      const bool own = std::ranges::any_of(kSubmitFlags, [&](const Flag& flag) { return flag.name == name; });
      side = own ? &out.own : &out.settings;
    }
    side->push_back(word);
  }
  if (!files.empty()) files.insert(files.begin(), "--config");
  out.settings.insert(out.settings.begin(), files.begin(), files.end());
  return out;
}

struct Element {
  fs::path directory;
  train::RunOptions options;
};

struct Plan {
  Site site;
  BatchJob job;
  std::vector<Element> elements;  ///< one, or those of the array
};

/// What several parts of the input have to say is said together.
class Faults {
 public:
  template <class Work>
  void collect(const Work& work) {
    try {
      work();
    } catch (const train::InputError& error) {
      for (const auto& fault : error.faults()) add(fault);
    }
  }
  void add(const std::string& fault) {
    if (std::ranges::count(faults_, fault) == 0) faults_.push_back(fault);
  }
  void throw_any() const {
    if (!faults_.empty()) throw train::InputError(faults_);
  }

 private:
  std::vector<std::string> faults_;
};

/// The runs: each element's settings are judged now, and not after hours in the queue.
void choose_runs(const Arguments& arguments, const std::vector<std::string>& settings, Plan& plan) {
  std::vector<Sweep> sweeps;
  Faults faults;
  for (const auto& word : arguments.list("--array")) {
    faults.collect([&] { sweeps.push_back(parse_sweep(word)); });
  }
  const auto base = parse_run_options(settings);
  faults.throw_any();
  plan.job.array = !sweeps.empty();
  plan.job.run = fs::absolute(base.run.dir).lexically_normal();
  if (!plan.job.array) {
    plan.elements.push_back({plan.job.run, base});
    return;
  }
  const auto all = combinations(sweeps);
  for (std::size_t i = 0; i < all.size(); ++i) {
    auto words = settings;
    std::erase_if(words, [&](const std::string& word) {  // the array's value instead of the one given for all
      return std::ranges::any_of(
          sweeps, [&](const Sweep& sweep) { return word.starts_with("--" + sweep.key + "="); });
    });
    words.insert(words.end(), all[i].begin(), all[i].end());
    faults.collect([&] {
      Element element{plan.job.run / std::to_string(i), parse_run_options(words)};
      element.options.run.dir = (fs::path(base.run.dir) / std::to_string(i)).string();
      if (const fs::path ledger = base.train.ledger; !ledger.empty()) {
        element.options.train.ledger = (fs::path(element.options.run.dir) / ledger.filename()).string();
      }
      plan.elements.push_back(std::move(element));
    });
  }
  faults.throw_any();
}

void check_runs(const Plan& plan, Faults& faults) {
  for (const auto& [directory, options] : plan.elements) {
    if (options.run.new_run) {
      faults.add(
          "run.new = true: a job that goes on after its time limit would start anew each time; move the "
          "old run away, or name another run.dir");
    }
    if (plan.job.ranks > options.train.global_batch) {
      faults.add(fmt::format("--ranks = {}: must be at most train.global_batch = {}", plan.job.ranks,
                             options.train.global_batch));
    }
    if (!train::may_hold_run(directory)) {
      faults.add(fmt::format("run.dir: {} exists and is not a run; name another one", directory.string()));
    }
  }
  for (const auto& path : {plan.job.run, plan.job.program, plan.job.directory, fs::path(plan.job.name)}) {
    if (!is_plain_path(path.string())) {
      faults.add(
          fmt::format("{}: has one of \" ' \\ % $ ` or a control character, which a batch script cannot "
                      "hold as it is; name another path, or --name",
                      path.string()));
    }
  }
}

Plan make_plan(const Arguments& arguments, const std::vector<std::string>& settings) {
  Plan plan;
  Faults faults;
  plan.job.program = fs::read_symlink("/proc/self/exe");
  plan.job.directory = fs::current_path();
  faults.collect([&] { choose_runs(arguments, settings, plan); });
  faults.collect([&] { plan.job.ranks = arguments.integer("--ranks", 1, 1000000); });
  faults.collect([&] {
    plan.site = read_site(arguments.text("--cluster"));
    faults.collect([&] { plan.job.time = checked_time(plan.site, arguments.text("--time")); });
    faults.collect([&] { (void)nodes_for(plan.job.ranks, plan.site.ranks_per_node); });
  });
  plan.job.name = arguments.has("--name") ? arguments.text("--name") : plan.job.run.filename().string();
  check_runs(plan, faults);
  faults.throw_any();
  return plan;
}

void write_files(const Plan& plan, const fs::path& script) {
  for (const auto& element : plan.elements) {
    fs::create_directories(element.directory);
    train::replace_file(element.directory / "submit.ini", dump_ini(element.options));
  }
  train::replace_file(script, batch_script(plan.site, plan.job));
}

/// Compute nodes may see more than this one does: a corpus that is not here is no fault.
void warn_of_corpora(const Plan& plan) {
  std::set<std::string> missing;
  for (const auto& element : plan.elements) {
    for (const auto& part : train::parse_corpora(element.options.data.corpus).parts) {
      if (!fs::exists(fs::path(part.path) / "corpus.json")) missing.insert(part.path);
    }
  }
  for (const auto& path : missing) {
    fmt::print(stderr, "sluice: data.corpus: there is no corpus in {} as seen from here\n", path);
  }
}

int run_submit(const std::vector<std::string>& words, parallel::Communicator&) {
  const auto parts = split(words);
  const Arguments arguments(kSubmitFlags, parts.own);
  const auto plan = make_plan(arguments, parts.settings);
  const auto script = plan.job.run / "submit.sbatch";
  const auto elements = plan.job.array ? static_cast<std::int64_t>(plan.elements.size()) : 0;
  const auto calls = sbatch_calls(plan.site, script, elements);
  warn_of_corpora(plan);
  if (arguments.has("--dry-run")) {
    print_submission(batch_script(plan.site, plan.job), script, calls);
    return kDone;
  }
  write_files(plan, script);
  std::string job;
  for (const auto& call : calls) {
    job = call_sbatch(call, job, script);
    fmt::print("submitted job {}: {}\n", job, script.string());
  }
  fmt::print("log: {}\n", (plan.job.run / (plan.job.array ? "N/submit.log" : "submit.log")).string());
  return kDone;
}

}  // namespace

Command submit_command() {
  return {
      .name = "submit",
      .summary = "write the batch script of a run for Slurm and submit it",
      .help =
          "  sluice submit CONFIG... --cluster SITE.ini [--ranks N] [--section.key=value ...]\n"
          "                [--array KEY=VALUES...] [--dry-run]\n\n"
          "The settings are checked first. Into run.dir go submit.sbatch, submit.ini (every setting) and\n"
          "submit.log; of an array each element has its run in run.dir/0, 1, ... The job stops before its "
          "time\n"
          "limit and goes on in another one. What the cluster wants stands in SITE.ini: "
          "docs/clusters.md.\n\n" +
          flag_help(kSubmitFlags),
      .run = run_submit};
}

}  // namespace sluice::cli
