#include "trainer/cli/study_submit.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <filesystem>
#include <map>
#include <system_error>

#include "trainer/cli/command.h"
#include "trainer/cli/option_table.h"
#include "trainer/cli/sbatch.h"
#include "trainer/cli/study_facts.h"
#include "trainer/cli/study_job.h"
#include "trainer/train/errors.h"
#include "trainer/train/files.h"

namespace sluice::cli {
namespace {

namespace fs = std::filesystem;
using study::Status;
using study::StudyRun;

constexpr const char* kRoundFile = "submit.round";

/// Runs that one array can have: all of as many ranks.
struct Round {
  std::int64_t ranks = 1;
  std::vector<StudyRun> runs{};
};

struct Submission {
  Site site;
  std::string cluster{};  ///< the site's file
  std::string time{};
  std::vector<Round> rounds{};
};

Submission make_submission(const StudySnapshot& now, const Arguments& arguments) {
  if (!arguments.has("--cluster")) throw train::InputError("--cluster: required");
  Submission out{.site = read_site(arguments.text("--cluster")), .cluster = arguments.text("--cluster")};
  out.time = checked_time(out.site, arguments.text("--time"));
  const auto only = arguments.list("--only");
  std::map<std::int64_t, Round> by_ranks;
  for (const auto& one : now.runs) {
    const bool chosen = only.empty() || std::ranges::count(only, one.run.id) > 0;
    if (one.state.status != Status::kWaiting || !chosen || !may_start(one)) continue;
    auto& round = by_ranks[one.run.ranks];
    round.ranks = one.run.ranks;
    round.runs.push_back(one);
  }
  for (auto& [ranks, round] : by_ranks) {
    (void)nodes_for(ranks, out.site.ranks_per_node);
    out.rounds.push_back(std::move(round));
  }
  return out;
}

BatchJob base_job(const StudyPlace& place, const Submission& submission) {
  BatchJob job{.name = place.spec().name,
               .program = fs::read_symlink("/proc/self/exe"),
               .run = fs::absolute(place.directory()).lexically_normal(),
               .directory = fs::current_path(),
               .time = submission.time};
  for (const auto& path : {job.run, job.program, job.directory, fs::absolute(submission.cluster)}) {
    if (!is_plain_path(path.string()))
      throw train::InputError(
          fmt::format("{}: has one of \" ' \\ % $ ` or a control character, which a batch "
                      "script cannot hold as it is",
                      path.string()));
  }
  return job;
}

std::string study_call(const StudyPlace& place, const BatchJob& job) {
  return fmt::format("\"{}\" study \"{}\"", job.program.string(),
                     (fs::absolute(place.directory()).lexically_normal() / "study.ini").string());
}

BatchJob array_job(const StudyPlace& place, const Submission& submission, const Round& round) {
  auto job = base_job(place, submission);
  job.command = fmt::format("{} run --only \"${{run##*/}}\" --launch {}", study_call(place, job),
                            shell_text({submission.site.launch}));
  job.run /= "runs";
  job.ranks = round.ranks;
  job.array = true;
  for (const auto& one : round.runs) job.names.push_back(one.run.id);
  return job;
}

BatchJob following_job(const StudyPlace& place, const Submission& submission) {
  auto job = base_job(place, submission);
  job.name += "-next";
  job.command = fmt::format("{} submit --after-round --cluster \"{}\" --time {}", study_call(place, job),
                            fs::absolute(submission.cluster).string(), submission.time);
  return job;
}

/// What a round has brought can be told by the checkpoints that its runs begin at.
std::string round_text(const Submission& submission) {
  std::string text;
  for (const auto& round : submission.rounds) {
    for (const auto& one : round.runs) {
      std::error_code missing;
      const auto latest = fs::read_symlink(fs::path(one.directory) / "checkpoints" / "latest", missing);
      text += fmt::format("{} {} {}\n", one.run.id, study::training_done(one.run, one.directory) ? 1 : 0,
                          latest.filename().string());
    }
  }
  return text;
}

void check_progress(const StudyPlace& place, const std::string& round, const Arguments& arguments) {
  const auto file = place.directory() / kRoundFile;
  if (!arguments.has("--after-round") || !fs::exists(file) || train::read_file(file) != round) return;
  throw std::runtime_error(
      "the round before this one brought none of its runs forward: not again, or it would go on like this; "
      "RUN/submit.log says why");
}

std::string submit_round(const StudyPlace& place, const Submission& submission, const Round& round) {
  const auto job = array_job(place, submission, round);
  const auto script = place.directory() / fmt::format("submit-{}.sbatch", round.ranks);
  train::replace_file(script, batch_script(submission.site, job));
  for (const auto& one : round.runs) {
    fs::create_directories(one.directory);
    train::replace_file(fs::path(one.directory) / study::kSettingsFile,
                        dump_ini(study_options(one.run, one.directory)));
  }
  std::string before;
  std::string all;
  for (const auto& call :
       sbatch_calls(submission.site, script, static_cast<std::int64_t>(round.runs.size()))) {
    before = call_sbatch(call, before, script);
    all += (all.empty() ? "" : ":") + before;
    fmt::print("submitted job {}: {}\n", before, script.string());
  }
  return all;
}

void submit_following(const StudyPlace& place, const Submission& submission, const std::string& jobs) {
  const auto script = place.directory() / "submit-next.sbatch";
  train::replace_file(script, batch_script(submission.site, following_job(place, submission)));
  auto call = sbatch_calls(submission.site, script, 0).front();
  call.waits = true;
  fmt::print("submitted job {}: {}, after these\n", call_sbatch(call, jobs, script), script.string());
}

void print_all(const StudyPlace& place, const Submission& submission) {
  for (const auto& round : submission.rounds) {
    const auto script = place.directory() / fmt::format("submit-{}.sbatch", round.ranks);
    print_submission(batch_script(submission.site, array_job(place, submission, round)), script,
                     sbatch_calls(submission.site, script, static_cast<std::int64_t>(round.runs.size())));
  }
}

}  // namespace

int submit_study(const StudyPlace& place, const Arguments& arguments) {
  const auto now = place.look();
  const auto submission = make_submission(now, arguments);
  if (arguments.has("--dry-run")) {
    print_all(place, submission);
    return kDone;
  }
  place.write(now);
  place.collect(now);
  if (submission.rounds.empty()) {
    fmt::print("nothing to submit; collected in {}\n", place.directory().string());
    return kDone;
  }
  const auto round = round_text(submission);
  check_progress(place, round, arguments);
  std::string jobs;
  for (const auto& one : submission.rounds)
    jobs += (jobs.empty() ? "" : ":") + submit_round(place, submission, one);
  train::replace_file(place.directory() / kRoundFile, round);
  submit_following(place, submission, jobs);
  return kDone;
}

}  // namespace sluice::cli
