#include "trainer/study/report.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "trainer/study/curves.h"
#include "trainer/study/html.h"
#include "trainer/study/run_files.h"
#include "trainer/train/errors.h"

namespace sluice::study {
namespace {

std::string grouped(double value) {
  std::string digits = fmt::format("{:.0f}", value);
  for (auto at = static_cast<std::ptrdiff_t>(digits.size()) - 3; at > 0; at -= 3)
    digits.insert(static_cast<std::size_t>(at), "\u202F");  // narrow no-break space
  return digits;
}

/// Large counts in three digits: 8.19 M.
std::string counted(double value) {
  if (value < 1e4) return grouped(value);
  if (value < 1e6) return fmt::format("{:.3g} k", value / 1e3);
  if (value < 1e9) return fmt::format("{:.3g} M", value / 1e6);
  return fmt::format("{:.4g} G", value / 1e9);
}

std::string duration(double seconds) {
  if (seconds < 1.0) return fmt::format("{:.0f} ms", seconds * 1e3);
  if (seconds < 120.0) return fmt::format("{:.1f} s", seconds);
  const auto minutes = static_cast<std::int64_t>(seconds / 60.0);
  if (minutes < 120) return fmt::format("{} min {:02d} s", minutes, static_cast<std::int64_t>(seconds) % 60);
  return fmt::format("{} h {:02d} min", minutes / 60, minutes % 60);
}

double median_of(std::vector<double> values) {
  std::erase_if(values, [](double value) { return !std::isfinite(value); });
  if (values.empty()) return 0.0;
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

struct Figure {
  std::string name;
  std::string value;
  std::string note;
};

std::string figure_list(const std::vector<Figure>& figures) {
  std::string out = "<dl class=\"figures\">\n";
  for (const auto& figure : figures)
    out += fmt::format("<div><dt>{}</dt><dd>{}<div class=\"note\">{}</div></dd></div>\n",
                       escape_html(figure.name), escape_html(figure.value), escape_html(figure.note));
  return out + "</dl>\n";
}

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
std::vector<Figure> quality_figures(const RunFiles& run) {
  const bool evaluated = std::isfinite(run.evaluated("loss"));
  if (!evaluated && run.metrics.valid.empty()) return {};
  const double loss = evaluated ? run.evaluated("loss") : run.metrics.valid.back().loss;
  const std::string note = quality_note(run, evaluated);
  std::vector<Figure> figures = {{"valid loss", fmt::format("{:.4f}", loss), "nats per token, " + note},
                                 {"perplexity", fmt::format("{:.4g}", std::exp(loss)), "per token, " + note}};
  const double bits = run.evaluated("bits_per_byte");
  if (std::isfinite(bits))
    figures.push_back({"bits per byte", fmt::format("{:.4f}", bits), "of text, " + note});
  return figures;
}

std::string final_numbers(const RunFiles& run) {
  std::vector<Figure> figures = quality_figures(run);
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
  return figure_list(figures);
}

const char* mark_class(Mark mark) {
  switch (mark) {
    case Mark::kFaintLine:
      return " class=\"faint\"";
    case Mark::kPoints:
      return " class=\"dot\"";
    case Mark::kArea:
      return " class=\"area\"";
    case Mark::kLine:
      break;
  }
  return "";
}

std::string legend(const Chart& chart) {
  if (chart.series.size() < 2) return "";
  std::string out = "<ul class=\"legend\">\n";
  for (const auto& series : chart.series)
    out += fmt::format("<li><span class=\"c-{}\"><i{}></i></span>{}</li>\n", series.colour,
                       mark_class(series.mark), escape_html(series.label));
  return out + "</ul>\n";
}

std::string figure(const Chart& chart, const Drawing& drawing) {
  return "<figure>\n" + legend(chart) + drawing.wide + drawing.narrow + "</figure>\n";
}

std::string time_table(const std::vector<TrainRecord>& records) {
  const auto parts = phases(records);
  double total = 0.0;
  for (const auto& part : parts) total += part.seconds;
  std::string out =
      "<table>\n<tr><th>part</th><th class=\"number\">share</th><th class=\"number\">in all</th>"
      "<th class=\"number\">a step</th></tr>\n";
  for (const auto& part : parts)
    out += fmt::format(
        "<tr><td>{}</td><td class=\"number\">{:.1f} %</td><td class=\"number\">{}</td><td "
        "class=\"number\">{:.2f} ms</td></tr>\n",
        escape_html(part.name), total > 0.0 ? 100.0 * part.seconds / total : 0.0, duration(part.seconds),
        1e3 * part.seconds / static_cast<double>(records.size()));
  return out + "</table>\n";
}

/// The last evaluation of a mixture, corpus by corpus.
std::string corpus_table(const std::vector<ValidRecord>& records) {
  if (records.empty() || records.back().corpora.empty()) return "";
  std::string out = fmt::format(
      "<table>\n<tr><th>corpus, step {}</th><th class=\"number\">share</th><th class=\"number\">valid "
      "loss</th>"
      "<th class=\"number\">perplexity</th></tr>\n",
      records.back().step);
  const auto row = [&](const std::string& name, double share, double loss) {
    out += fmt::format(
        "<tr><td>{}</td><td class=\"number\">{:.2f} %</td><td class=\"number\">{:.4f}</td><td "
        "class=\"number\">{:.4g}</td></tr>\n",
        escape_html(name), 100.0 * share, loss, std::exp(loss));
  };
  for (const auto& one : records.back().corpora) row(one.corpus, one.share, one.loss);
  row("mean by share", 1.0, records.back().loss);
  return out + "</table>\n";
}

std::string charts(const Metrics& metrics, const std::string& gnuplot) {
  const bool steps = !metrics.train.empty();
  std::vector<Chart> all = {loss_chart(metrics)};
  if (steps)
    all.insert(all.end(),
               {speed_chart(metrics), time_chart(metrics), rate_chart(metrics), norm_chart(metrics)});
  const auto drawings = draw(all, gnuplot);
  std::string out =
      drawing_definitions() + "<h2>Loss</h2>\n" + figure(all[0], drawings[0]) + corpus_table(metrics.valid);
  if (!steps) return out;
  out += fmt::format(
      "<p class=\"quiet\">Smoothed, here and below: mean over {} steps. Valid: on the valid split while "
      "training.</p>\n",
      2 * smoothing_steps(metrics.train.size()) + 1);
  out += "<h2>Speed</h2>\n" + figure(all[1], drawings[1]);
  out += "<h2>Where the time went</h2>\n" + figure(all[2], drawings[2]) + time_table(metrics.train);
  out += "<div class=\"two\"><section><h2>Learning rate</h2>\n" + figure(all[3], drawings[3]);
  return out + "</section><section><h2>Gradient norm</h2>\n" + figure(all[4], drawings[4]) +
         "</section></div>\n";
}

std::string settings(const RunFiles& run) {
  if (run.settings.empty()) return "";
  std::string out = "<h2>Settings</h2>\n<div class=\"tables\">\n";
  for (const auto& section : run.settings)
    if (!section.rows.empty())
      out += "<section><h3>" + escape_html(section.name) + "</h3>\n" + value_table(section.rows) +
             "</section>\n";
  return out + "</div>\n";
}

std::string evaluation(const RunFiles& run) {
  if (run.evaluation.empty()) return "";
  std::vector<Row> rows;
  for (const auto& entry : run.evaluation) {
    std::string name = entry.key;
    std::replace(name.begin(), name.end(), '_', ' ');
    rows.push_back({name, entry.text});
  }
  return "<h2>Evaluation</h2>\n" + value_table(rows);
}

std::string block(const std::string& title, const std::string& text) {
  if (text.find_first_not_of(" \t\r\n") == std::string::npos) return "";
  return fmt::format("<h2>{}</h2>\n<pre>{}</pre>\n", title, escape_html(text));
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
  return "<p class=\"quiet\">" + escape_html(text) + "</p>\n";
}

}  // namespace

std::string report_html(const std::filesystem::path& directory, const ReportOptions& options) {
  const RunFiles run = read_run(directory);
  if (run.metrics.train.empty() && run.metrics.valid.empty())
    throw train::InputError(
        fmt::format("{}: no step has been logged yet", (directory / "metrics.jsonl").string()));
  std::string body = "<header><h1>" + escape_html(run.name) + "</h1>\n" + subtitle(run) + "</header>\n";
  body += final_numbers(run) + charts(run.metrics, options.gnuplot);
  body += block("Sample", run.sample) + evaluation(run) + settings(run) + block("Build", run.build);
  return html_page(run.name + " — Sluice report", body);
}

}  // namespace sluice::study
