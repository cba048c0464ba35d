#include "trainer/cli/train_progress.h"

#include <fmt/format.h>
#include <unistd.h>

#include <cstdio>

#include "trainer/cli/terminal.h"

namespace sluice::cli {

namespace {

constexpr std::chrono::seconds kBetweenLines{5};
constexpr std::chrono::milliseconds kBetweenRewrites{100};
constexpr double kSmoothing = 0.1;  ///< weight of the newest step in the step time shown

}  // namespace

TrainProgress::TrainProgress()
    : display_(can_rewrite_lines(STDOUT_FILENO) ? Display::kInPlace : Display::kLines),
      start_(Clock::now()),
      last_line_(start_) {}

void TrainProgress::show(const std::string& line) {
  std::printf("\r%s\x1b[K", line.c_str());
  std::fflush(stdout);
  in_place_ = true;
}

void TrainProgress::say(const std::string& line) {
  std::printf("%s%s\n", in_place_ ? "\n" : "", line.c_str());
  std::fflush(stdout);
  in_place_ = false;
}

void TrainProgress::warned(const std::string& message) { say("warning: " + message); }

void TrainProgress::told(const std::string& message) { say(message); }

void TrainProgress::started(const train::RunSummary& summary) {
  summary_ = summary;
  say(fmt::format("{}: {}, {} thread{} each", train::describe_nodes(summary.nodes), summary.device,
                  summary.threads, summary.threads == 1 ? "" : "s"));
  if (!summary.moved_by.empty()) say("exchange: " + summary.moved_by);
  say(fmt::format("run {}: {} parameters", summary.directory.string(),
                  short_count(static_cast<double>(summary.parameters))));
  say_data();
  if (summary.first_step > 0) say(fmt::format("resuming after step {}", summary.first_step));
  start_ = Clock::now();
}

void TrainProgress::say_data() {
  const std::string steps =
      fmt::format("{} tokens a step, {} steps", short_count(static_cast<double>(summary_.tokens_per_step)),
                  summary_.total_steps);
  const auto split = [](const train::CorpusSummary& corpus) {
    return fmt::format("{} tokens, {} samples an epoch, {} tokens dropped at the end",
                       short_count(static_cast<double>(corpus.tokens)), corpus.samples_per_epoch,
                       corpus.dropped_tokens);
  };
  if (summary_.corpora.size() == 1)
    return say(fmt::format("data: {}; {}", split(summary_.corpora[0]), steps));
  const auto samples = static_cast<double>(summary_.total_steps * summary_.samples_per_step);
  for (const train::CorpusSummary& corpus : summary_.corpora) {
    say(fmt::format("data: {:.2f} % from {}: {}; {:.2f} epochs of it in the whole run", 100 * corpus.share,
                    corpus.corpus, split(corpus),
                    corpus.share * samples / static_cast<double>(corpus.samples_per_epoch)));
  }
  say("data: " + steps);
}

std::string TrainProgress::step_line(std::int64_t steps, const train::StepResult& result,
                                     const train::StepMetrics& metrics) const {
  const std::chrono::duration<double> elapsed = Clock::now() - start_;
  const auto done = static_cast<double>(steps - summary_.first_step);
  const auto left = static_cast<double>(summary_.total_steps - steps);
  return fmt::format(
      "step {}/{}  loss {:.4f}  lr {:.2e}  {} tokens/s{}  ETA {}", steps, summary_.total_steps, result.loss,
      result.lr, short_count(static_cast<double>(summary_.tokens_per_step) / step_s_),
      metrics.mfu ? fmt::format("  MFU {:.1f} %", 100.0 * *metrics.mfu * result.step_s / step_s_) : "",
      clock_text(elapsed.count() / done * left));
}

void TrainProgress::stepped(std::int64_t steps, const train::StepResult& result,
                            const train::StepMetrics& metrics) {
  step_s_ = step_s_ == 0 ? result.step_s : (1 - kSmoothing) * step_s_ + kSmoothing * result.step_s;
  const bool edge = steps == summary_.first_step + 1 || steps == summary_.total_steps;
  const auto now = Clock::now();
  const auto pause =
      display_ == Display::kInPlace ? kBetweenRewrites : std::chrono::milliseconds(kBetweenLines);
  if (!edge && now - last_line_ < pause) return;
  last_line_ = now;
  if (display_ == Display::kInPlace) {
    show(step_line(steps, result, metrics));
  } else {
    say(step_line(steps, result, metrics));
  }
}

void TrainProgress::evaluated(std::int64_t steps, const train::Validation& validation) {
  std::string each;
  for (const train::CorpusValidation& one : validation.corpora)
    each += fmt::format("{}{} {:.4f}", each.empty() ? "" : ", ", one.corpus, one.result.loss);
  say(fmt::format("step {}: validation loss {:.4f} over {} tokens{}", steps, validation.loss,
                  short_count(static_cast<double>(validation.tokens)),
                  validation.corpora.size() > 1 ? fmt::format(" ({})", each) : ""));
}

void TrainProgress::checkpointed(std::int64_t steps, const std::filesystem::path& directory) {
  if (steps == summary_.total_steps || display_ == Display::kLines)
    say(fmt::format("step {}: wrote {}", steps, directory.string()));
}

void TrainProgress::ended(train::TrainOutcome outcome, std::int64_t steps) {
  const std::chrono::duration<double> elapsed = Clock::now() - start_;
  if (outcome == train::TrainOutcome::kStoppedEarly) {
    say(fmt::format(
        "stopped by a signal after step {}, checkpoint written; the same command goes on from there", steps));
  } else if (steps == summary_.first_step) {
    say(fmt::format("all {} steps were done before; nothing to do", steps));
  } else {
    say(fmt::format("done: {} steps in {}", steps - summary_.first_step, clock_text(elapsed.count())));
  }
}

}  // namespace sluice::cli
