#include "trainer/cli/option_checks.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <utility>

#include "trainer/cli/option_table.h"
#include "trainer/optim/schedule.h"
#include "trainer/train/corpus_list.h"

namespace sluice::cli {
namespace {

using Faults = std::vector<CombinationFault>;

constexpr double kMostTokens = 9e18;  // counts are int64

void check_given(const train::RunOptions& o, Faults& faults) {
  if (o.run.dir.empty()) {
    faults.push_back({{"run.dir"}, "run.dir: must be given (the directory that the run writes into)"});
  }
  if (o.data.corpus.empty()) {
    faults.push_back(
        {{"data.corpus"}, "data.corpus: must be given (a directory that `sluice prepare` wrote)"});
  }
  const train::CorpusList corpora = train::parse_corpora(o.data.corpus);
  for (const std::string& fault : corpora.faults) faults.push_back({{"data.corpus"}, fault});
  for (const train::CorpusPart& part : corpora.parts) {
    if (o.run.dir.empty() || std::filesystem::path(o.run.dir).lexically_normal() !=
                                 std::filesystem::path(part.path).lexically_normal()) {
      continue;
    }
    faults.push_back(
        {{"run.dir", "data.corpus"},
         fmt::format("run.dir and data.corpus are both {}: a run needs a directory of its own", o.run.dir)});
  }
  if (o.train.steps == 0 && o.train.tokens == 0) {
    faults.push_back(
        {{"train.steps", "train.tokens"}, "train.steps or train.tokens: one must be given, and above 0"});
  }
}

void check_steps(const train::RunOptions& o, Faults& faults) {
  const auto& t = o.train;
  if (t.micro_batch > t.global_batch) {
    faults.push_back({{"train.micro_batch", "train.global_batch"},
                      fmt::format("train.micro_batch = {}: must be at most train.global_batch = {}",
                                  t.micro_batch, t.global_batch)});
  }
  const double tokens = static_cast<double>(t.steps) * static_cast<double>(t.global_batch) *
                        static_cast<double>(o.model.seq_len);
  if (tokens > kMostTokens) {
    faults.push_back(
        {{"train.steps", "train.global_batch", "model.seq_len"},
         fmt::format("train.steps = {} x train.global_batch = {} x model.seq_len = {} is {} tokens: at most "
                     "{} can be counted",
                     t.steps, t.global_batch, o.model.seq_len, tokens, kMostTokens)});
  }
  if (t.ledger_detail == "full" && t.ledger.empty()) {
    faults.push_back({{"train.ledger_detail", "train.ledger"},
                      "train.ledger_detail = full: needs train.ledger, the file to write to"});
  }
  const auto& c = o.checkpoint;
  if (c.keep_every > 0 && (c.every == 0 || c.keep_every % c.every != 0)) {
    faults.push_back({{"checkpoint.keep_every", "checkpoint.every"},
                      fmt::format("checkpoint.keep_every = {}: must be a multiple of checkpoint.every = {}{}",
                                  c.keep_every, c.every, c.every == 0 ? " (never)" : "")});
  }
}

void check_schedule(const train::RunOptions& o, Faults& faults) {
  const auto& s = o.optim;
  const auto steps = o.train.steps;
  if (steps == 0) return;  // said already
  // noam peaks at the end of warm-up and plans no end: a short run may stay below the peak.
  if (s.schedule == "noam") return;
  const auto decaying = std::llround(s.decay_fraction * static_cast<double>(steps));
  if (s.warmup_steps > steps) {
    faults.push_back(
        {{"optim.warmup_steps", "train.steps", "train.tokens"},
         fmt::format("optim.warmup_steps = {}: must be at most train.steps = {}", s.warmup_steps, steps)});
  } else if (s.schedule == "wsd" && s.warmup_steps > steps - decaying) {
    faults.push_back({{"optim.warmup_steps", "optim.decay_fraction", "train.steps", "train.tokens"},
                      fmt::format("optim.warmup_steps = {}: must be at most {}, since optim.decay_fraction = "
                                  "{} of train.steps = {} "
                                  "are the decay of wsd",
                                  s.warmup_steps, steps - decaying, s.decay_fraction, steps)});
  }
}

/// What ranks that share a sequence (parallel.sp) cannot compute.
void check_sharing(const train::RunOptions& o, Faults& faults) {
  const auto& p = o.parallel;
  if (p.sp == 1) return;
  const auto refuse = [&](const std::string& key, const std::string& value, const std::string& allowed) {
    faults.push_back({{"parallel.sp", key},
                      fmt::format("parallel.sp = {}: ranks share sequences where {} is {}, not {}", p.sp, key,
                                  allowed, value)});
  };
  const auto& m = o.model;
  if (m.kind == "mixer") refuse("model.kind", m.kind, "gmlp or transformer");
  if (m.kind == "transformer" && p.sp_mode == "ring")
    refuse("parallel.sp_mode", p.sp_mode, "auto, alltoall or rowshard for a transformer");
  if (m.kind == "transformer" && p.sp_mode == "alltoall" && m.heads % p.sp != 0)
    refuse("model.heads", std::to_string(m.heads),
           "a multiple of parallel.sp under parallel.sp_mode = alltoall, which deals out heads");
  if (m.token_shift > 0) refuse("model.token_shift", std::to_string(m.token_shift), "0");
  if (m.dropout > 0) refuse("model.dropout", fmt::format("{}", m.dropout), "0");
  if (p.sp > m.seq_len)
    faults.push_back(
        {{"parallel.sp", "model.seq_len"},
         fmt::format("parallel.sp = {}: must be at most model.seq_len = {}, or a rank would hold "
                     "no position",
                     p.sp, m.seq_len)});
  if (p.sp_mode == "alltoall" && m.spatial_heads > 1)
    faults.push_back(
        {{"parallel.sp_mode", "model.spatial_heads"},
         fmt::format("parallel.sp_mode = alltoall: deals out channels, which model.spatial_heads "
                     "= {} groups; allowed are auto, rowshard and ring",
                     m.spatial_heads)});
}

std::string refuse_steps(const train::RunOptions& before, const train::RunOptions& now, std::int64_t step) {
  const auto old_steps = before.train.steps;
  const auto new_steps = now.train.steps;
  const auto change = fmt::format("train.steps: {} -> {}", old_steps, new_steps);
  if (new_steps < step) return fmt::format("{}: the run has done {} steps already", change, step);
  const auto& schedule = before.optim.schedule;
  if (schedule == "constant" || schedule == "noam") return "";
  const auto branch = fmt::format("start a new run with --run.dir=NEW_DIR --train.steps={}", new_steps);
  if (schedule == "wsd") {
    const auto first =
        std::min(optim::decay_begin(before.optim, old_steps), optim::decay_begin(now.optim, new_steps));
    if (step <= first) return "";
    return fmt::format(
        "{}: under optim.schedule = wsd it may change until the decay begins, at step {}, and the run "
        "has done {}; {}, with --run.branch_from=CHECKPOINT it goes on from one of step {} or earlier",
        change, first, step, branch, first);
  }
  return fmt::format(
      "{}: under optim.schedule = {} the learning rates of the {} steps already taken were planned for {}; "
      "{} (optim.schedule = constant, noam or wsd can be prolonged)",
      change, schedule, step, old_steps, branch);
}

}  // namespace

std::int64_t steps_for_tokens(const train::RunOptions& options) {
  const auto step_tokens = options.train.global_batch * options.model.seq_len;
  return options.train.tokens / step_tokens + (options.train.tokens % step_tokens == 0 ? 0 : 1);
}

std::vector<CombinationFault> check_combinations(const train::RunOptions& options) {
  Faults faults;
  check_given(options, faults);
  for (auto& fault : check_model(options)) faults.push_back(std::move(fault));
  check_steps(options, faults);
  check_schedule(options, faults);
  check_sharing(options, faults);
  return faults;
}

ResumeDifferences compare_for_resume(const train::RunOptions& before, const train::RunOptions& now,
                                     std::int64_t step) {
  ResumeDifferences differences;
  for (const auto& row : option_table()) {
    const auto old_value = row.get(before);
    const auto new_value = row.get(now);
    if (old_value == new_value || row.on_resume == OnResume::kFree) continue;
    const auto change = fmt::format("{}: {} -> {}", row.key, old_value, new_value);
    if (row.on_resume == OnResume::kWarn) {
      differences.warnings.push_back(fmt::format("{} from step {} on", change, step));
    } else if (row.on_resume == OnResume::kRefuse) {
      differences.refusals.push_back(change +
                                     ": cannot change when a run resumes; start a new run with "
                                     "--run.dir=NEW_DIR, or put this one aside with --run.new");
    } else if (const auto fault = refuse_steps(before, now, step); !fault.empty()) {
      differences.refusals.push_back(fault);
    }
  }
  return differences;
}

}  // namespace sluice::cli
