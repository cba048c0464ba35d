#include <fmt/format.h>

#include <chrono>
#include <cstdio>
#include <string>
#include <utility>
#include <vector>

#include "parallel/agree.h"
#include "parallel/watchdog.h"
#include "trainer/cli/arguments.h"
#include "trainer/cli/bench.h"
#include "trainer/cli/command.h"
#include "trainer/cli/doctor/launch.h"
#include "trainer/cli/option_table.h"
#include "trainer/cli/train_progress.h"
#include "trainer/cli/version.h"
#include "trainer/train/errors.h"
#include "trainer/train/session.h"
#include "trainer/train/signals.h"

namespace sluice::cli {

namespace {

const std::vector<Flag> kTrainFlags = {
    {.name = "--profile",
     .value_name = "FILE",
     .help =
         "a trace of steps 11 to 13 on rank 0, for Perfetto or TensorBoard; with {rank} in its name one of "
         "every rank"}};

train::RunOptions agreed_options(const std::vector<std::string>& arguments, parallel::Communicator& world) {
  train::RunOptions options;
  parallel::on_all_ranks(world, [&] {
    options = parse_run_options(arguments);
    if (options.run.dir.empty()) throw train::InputError("run.dir: not given; name the run's directory");
    if (options.data.corpus.empty())
      throw train::InputError("data.corpus: not given; `sluice prepare` makes a corpus");
  });
  const std::vector<std::string> all = world.all_gather(dump_ini(options));
  for (std::size_t rank = 1; rank < all.size(); ++rank) {
    if (all[rank] != all[0])
      throw train::InputError(fmt::format("rank {} was started with other settings than rank 0", rank));
  }
  return options;
}

train::ResumeVerdict judge(const std::string& ini_before, const train::RunOptions& now,
                           std::int64_t steps_done) {
  const train::RunOptions before = parse_run_options_text(ini_before, "the checkpoint's resolved.ini");
  ResumeDifferences differences = compare_for_resume(before, now, steps_done);
  return {.warnings = std::move(differences.warnings), .refusals = std::move(differences.refusals)};
}

/// Runs to the end; a fault that all ranks share is told once, one of this rank alone ends the job.
int run_session(train::Session& session, parallel::Communicator& world) {
  int code = kFault;
  end_job_on_fault(world, [&] {
    try {
      code = session.run() == train::TrainOutcome::kDone ? kDone : kStoppedEarly;
    } catch (const train::AgreedError& error) {
      if (world.rank() == 0) std::fprintf(stderr, "sluice: %s\n", error.what());
    }
  });
  return code;
}

/// Refuses N jobs of one rank instead of one of N. The first process tells the reason, as rank 0 does
/// elsewhere.
bool launched_apart(const parallel::Communicator& world) {
  const auto fault = doctor::launch_fault(world);
  if (!fault) return false;
  if (fault->rank == 0) throw train::InputError(fault->reason);
  return true;
}

int run_train(const std::vector<std::string>& arguments, parallel::Communicator& world) {
  if (launched_apart(world)) return kBadInput;
  const BenchWords words = split_words(kTrainFlags, arguments);
  const Arguments own(kTrainFlags, words.own);
  const train::RunOptions options = agreed_options(words.settings, world);
  const train::StopSignals signals(train::Handlers::kApart);
  const parallel::Watchdog watchdog(
      world, {.limit = std::chrono::seconds(options.parallel.watchdog_s), .exit_code = kFault},
      [](const parallel::HangReport& report) {
        std::fprintf(stderr, "sluice: %s\n", report.text().c_str());
      });
  TrainProgress progress;
  train::SessionContext context;
  context.texts = {.resolved_ini = dump_ini(options), .build = version_text()};
  context.compare = [&](const std::string& before, std::int64_t steps) {
    return judge(before, options, steps);
  };
  context.stop_wish = [&] { return signals.requested() ? train::StopWish::kStop : train::StopWish::kGoOn; };
  context.sink = &progress;
  context.profile = own.text("--profile");
  train::Session session(options, std::move(context), world);
  return run_session(session, world);
}

}  // namespace

Command train_command() {
  return {.name = "train",
          .summary = "trains a model on a corpus, alone or under mpirun; resumes a run that is there",
          .help = "sluice train --config FILE... [--section.key=value ...] [--profile FILE]\n\n" +
                  flag_help(kTrainFlags) + "\n" + option_help(),
          .run = run_train,
          .ranks = Ranks::kMany};
}

}  // namespace sluice::cli
