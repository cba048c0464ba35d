#include "trainer/study/report.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "trainer/study/curves.h"
#include "trainer/study/html.h"
#include "trainer/study/numbers.h"
#include "trainer/study/page.h"
#include "trainer/study/run_files.h"
#include "trainer/train/errors.h"

namespace sluice::study {
namespace {

/// What the valid loss is of; in a mixture one corpus, or all.
std::string quality_note(const RunFiles& run, bool evaluated) {
  const auto& valid = run.metrics.valid;
  const bool mixture = !valid.empty() && !valid.back().corpora.empty();
  if (!evaluated)
    return fmt::format("step {}{}", valid.back().step, mixture ? ", mean of the corpora by share" : "");
  const auto corpus = std::ranges::find(run.evaluation, "corpus", &EvalEntry::key);
  return mixture && corpus != run.evaluation.end() ? "whole split of " + corpus->text : "whole split";
}

/// Loss, perplexity and bits per byte over the whole split where sluice eval has run, else of the last
/// validation.
std::vector<KeyNumber> quality_figures(const RunFiles& run) {
  const bool evaluated = std::isfinite(run.evaluated("loss"));
  if (!evaluated && run.metrics.valid.empty()) return {};
  const double loss = evaluated ? run.evaluated("loss") : run.metrics.valid.back().loss;
  const std::string note = quality_note(run, evaluated);
  std::vector<KeyNumber> figures = {
      {"valid loss", fmt::format("{:.4f}", loss), "nats per token, " + note},
      {"perplexity", fmt::format("{:.4g}", std::exp(loss)), "per token, " + note}};
  const double bits = run.evaluated("bits_per_byte");
  if (std::isfinite(bits))
    figures.push_back({"bits per byte", fmt::format("{:.4f}", bits), "of text, " + note});
  return figures;
}

KeyNumbers final_numbers(const RunFiles& run) {
  std::vector<KeyNumber> figures = quality_figures(run);
  const auto& train = run.metrics.train;
  if (!train.empty()) {
    std::vector<double> losses;
    std::vector<double> speeds;
    std::vector<double> shares;
    std::vector<double> energies;
    double seconds = 0.0;
    for (const auto& record : train) {
      losses.push_back(record.loss);
      speeds.push_back(record.tokens_per_s);
      if (std::isfinite(record.mfu)) shares.push_back(record.mfu);
      if (std::isfinite(record.energy_per_token_j)) energies.push_back(record.energy_per_token_j);
      if (std::isfinite(record.step_s)) seconds += record.step_s;
    }
    const std::int64_t window = smoothing_steps(losses.size());
    figures.push_back({"train loss", fmt::format("{:.4f}", smoothed(losses, window).back()),
                       fmt::format("nats per token, mean of the last {} steps",
                                   std::min<std::size_t>(window + 1, losses.size()))});
    figures.push_back({"tokens seen", counted(static_cast<double>(train.back().tokens)),
                       fmt::format("in {} steps", grouped(static_cast<double>(train.back().step)))});
    figures.push_back({"tokens/s", counted(median_of(speeds)), "median of the steps, all ranks"});
    if (!shares.empty())
      figures.push_back(
          {"MFU", fmt::format("{:.1f} %", 100.0 * median_of(shares)), "of the measured peak, median"});
    if (!energies.empty())
      figures.push_back(
          {"energy", fmt::format("{:.3g} mJ", 1e3 * median_of(energies)), "a token, of one GPU, median"});
    figures.push_back({"time in steps", duration(seconds), "without evaluation and checkpoints"});
  }
  return {std::move(figures)};
}

Grid time_table(const std::vector<TrainRecord>& records) {
  const auto parts = phases(records);
  double total = 0.0;
  for (const auto& part : parts) total += part.seconds;
  Grid grid{.name = "time-parts",
            .columns = {{"part", Align::kText}, {"share"}, {"in all"}, {"a step"}},
            .rows = {}};
  for (const auto& part : parts)
    grid.rows.push_back({part.name, percent(total > 0.0 ? part.seconds / total : 0.0), duration(part.seconds),
                         fixed(1e3 * part.seconds / static_cast<double>(records.size()), 2) + " ms"});
  return grid;
}

/// The last evaluation of a mixture, corpus by corpus.
Grid corpus_table(const std::vector<ValidRecord>& records) {
  const ValidRecord& last = records.back();
  Grid grid{.name = "corpora",
            .columns = {{fmt::format("corpus, step {}", last.step), Align::kText},
                        {"share"},
                        {"valid loss"},
                        {"perplexity"}},
            .rows = {}};
  const auto row = [&](const std::string& name, double share, double loss) {
    grid.rows.push_back({name, percent(share, 2), fixed(loss, 4), significant(std::exp(loss), 4)});
  };
  for (const auto& one : last.corpora) row(one.corpus, one.share, one.loss);
  row("mean by share", 1.0, last.loss);
  return grid;
}

/// The losses of other programs go into the run's own unit of tokens.
Chart loss_with(const Metrics& metrics, const std::vector<Overlay>& overlays) {
  Chart chart = loss_chart(metrics);
  constexpr int kOwnColours = 2;
  for (auto& series : overlay_series(overlays, loss_scale(metrics).divisor, kOwnColours))
    chart.series.push_back(std::move(series));
  return chart;
}

std::vector<Part> charts(const Metrics& metrics, const std::vector<Overlay>& overlays) {
  std::vector<Part> parts = {Heading{"Loss"}, Figure{"loss", loss_with(metrics, overlays)}};
  if (!metrics.valid.empty() && !metrics.valid.back().corpora.empty())
    parts.emplace_back(corpus_table(metrics.valid));
  if (metrics.train.empty()) return parts;
  parts.emplace_back(
      Paragraph{fmt::format("Smoothed, here and below: mean over {} steps. Valid: on the valid split while "
                            "training.",
                            2 * smoothing_steps(metrics.train.size()) + 1)});
  parts.insert(parts.end(), {Heading{"Speed"}, Figure{"speed", speed_chart(metrics)}});
  parts.insert(parts.end(), {Heading{"Where the time went"}, Figure{"time", time_chart(metrics)}});
  parts.emplace_back(time_table(metrics.train));
  parts.emplace_back(Pair{{{"learning-rate", rate_chart(metrics), "Learning rate"},
                           {"gradient-norm", norm_chart(metrics), "Gradient norm"}},
                          2});
  return parts;
}

std::vector<Part> settings(const RunFiles& run) {
  if (run.settings.empty()) return {};
  ValueTables tables;
  for (const auto& section : run.settings) tables.tables.push_back({section.name, section.rows});
  return {Heading{"Settings"}, std::move(tables)};
}

std::vector<Part> evaluation(const RunFiles& run) {
  if (run.evaluation.empty()) return {};
  std::vector<Row> rows;
  for (const auto& entry : run.evaluation) {
    std::string name = entry.key;
    std::replace(name.begin(), name.end(), '_', ' ');
    rows.push_back({name, entry.text});
  }
  return {Heading{"Evaluation"}, ValueTables{{{"", std::move(rows)}}}};
}

std::vector<Part> block(const std::string& title, const std::string& text) {
  if (text.find_first_not_of(" \t\r\n") == std::string::npos) return {};
  return {Heading{title}, Preformatted{text}};
}

std::string subtitle(const RunFiles& run) {
  std::string text = "Run of Sluice";
  const auto add = [&](const char* words, const std::string& value) {
    if (!value.empty()) text += fmt::format(" · {}{}", words, value);
  };
  add("", run.setting("model", "kind"));
  add("layers ", run.setting("model", "layers"));
  add("d_model ", run.setting("model", "d_model"));
  add("d_ffn ", run.setting("model", "d_ffn"));
  add("seq_len ", run.setting("model", "seq_len"));
  add("global batch ", run.setting("train", "global_batch"));
  return text;
}

}  // namespace

Page run_page(const std::filesystem::path& directory, const std::vector<Overlay>& overlays) {
  const RunFiles run = read_run(directory);
  if (run.metrics.train.empty() && run.metrics.valid.empty())
    throw train::InputError(
        fmt::format("{}: no step has been logged yet", (directory / "metrics.jsonl").string()));
  Page page{.title = run.name, .subtitle = subtitle(run)};
  page.add(final_numbers(run));
  page.append(charts(run.metrics, overlays));
  page.append(block("Sample", run.sample));
  page.append(evaluation(run));
  page.append(settings(run));
  page.append(block("Build", run.build));
  return page;
}

std::string report_html(const std::filesystem::path& directory, const ReportOptions& options) {
  return write_page(run_page(directory), "report", options.gnuplot).html;
}

}  // namespace sluice::study
