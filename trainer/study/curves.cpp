#include "trainer/study/curves.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

namespace sluice::study {
namespace {

constexpr std::int64_t kLinePoints = 1200;  // more than the pixels of a chart
constexpr std::int64_t kAreaPoints = 160;   // an area needs a calm edge

using Member = double TrainRecord::*;

std::vector<double> column(const std::vector<TrainRecord>& records, Member member) {
  std::vector<double> values;
  values.reserve(records.size());
  for (const auto& record : records) values.push_back(record.*member);
  return values;
}

template <class Records>
std::vector<double> steps_of(const Records& records) {
  std::vector<double> values;
  for (const auto& record : records) values.push_back(static_cast<double>(record.step));
  return values;
}

template <class Records>
std::vector<double> tokens_of(const Records& records, double divisor) {
  std::vector<double> values;
  for (const auto& record : records) values.push_back(static_cast<double>(record.tokens) / divisor);
  return values;
}

double largest(const std::vector<double>& values) {
  double most = 0.0;
  for (const double value : values)
    if (std::isfinite(value)) most = std::max(most, value);
  return most;
}

std::string with_unit(const std::string& what, const std::string& unit) {
  return unit.empty() ? what : what + " (" + unit + ")";
}

Series line(std::string label, int colour, Mark mark, const std::vector<double>& x,
            const std::vector<double>& y) {
  return {.label = std::move(label),
          .colour = colour,
          .mark = mark,
          .x = thinned(x, kLinePoints),
          .y = thinned(y, kLinePoints)};
}

struct Part {
  const char* name;
  Member member;
};
constexpr std::array<Part, 5> kParts = {{{"data wait", &TrainRecord::data_wait_s},
                                         {"forward", &TrainRecord::forward_s},
                                         {"backward", &TrainRecord::backward_s},
                                         {"exposed communication", &TrainRecord::comm_exposed_s},
                                         {"optimizer", &TrainRecord::optimizer_s}}};

bool measured(const std::vector<TrainRecord>& records, Member member) {
  return std::any_of(records.begin(), records.end(),
                     [&](const TrainRecord& r) { return std::isfinite(r.*member); });
}

double finite_or_zero(double value) { return std::isfinite(value) ? value : 0.0; }

/// The parts that some record has; those left out go into the rest.
std::vector<Part> parts_of(const std::vector<TrainRecord>& records) {
  std::vector<Part> parts;
  for (const auto& part : kParts)
    if (measured(records, part.member)) parts.push_back(part);
  return parts;
}

std::string rest_name(const std::vector<TrainRecord>& records) {
  return measured(records, &TrainRecord::forward_s) ? "other" : "compute and other";
}

/// The evaluations of one corpus of a mixture; NaN where it was not evaluated.
std::vector<double> losses_of(const std::vector<ValidRecord>& records, const std::string& corpus) {
  std::vector<double> losses;
  for (const auto& record : records) {
    const auto found = std::ranges::find(record.corpora, corpus, &CorpusLoss::corpus);
    losses.push_back(found == record.corpora.end() ? std::numeric_limits<double>::quiet_NaN() : found->loss);
  }
  return losses;
}

}  // namespace

Scale scale_for(double most) {
  if (most >= 2e9) return {1e9, "billions"};
  if (most >= 2e6) return {1e6, "millions"};
  if (most >= 2e3) return {1e3, "thousands"};
  return {};
}

std::vector<double> smoothed(const std::vector<double>& values, std::int64_t steps) {
  const auto size = static_cast<std::int64_t>(values.size());
  std::vector<double> sums(1, 0.0);
  std::vector<double> counts(1, 0.0);
  for (const double value : values) {
    sums.push_back(sums.back() + finite_or_zero(value));
    counts.push_back(counts.back() + (std::isfinite(value) ? 1.0 : 0.0));
  }
  std::vector<double> means;
  means.reserve(values.size());
  for (std::int64_t i = 0; i < size; ++i) {
    const std::int64_t reach = std::min(steps, i);
    const auto first = static_cast<std::size_t>(i - reach);
    const auto end = static_cast<std::size_t>(std::min(i + reach + 1, size));
    const double count = counts[end] - counts[first];
    means.push_back(count > 0.0 ? (sums[end] - sums[first]) / count
                                : std::numeric_limits<double>::quiet_NaN());
  }
  return means;
}

std::vector<double> thinned(const std::vector<double>& values, std::int64_t points) {
  const auto size = static_cast<std::int64_t>(values.size());
  if (size <= points) return values;
  std::vector<double> out;
  for (std::int64_t p = 0; p < points; ++p) {
    double sum = 0.0;
    double count = 0.0;
    for (std::int64_t i = p * size / points; i < (p + 1) * size / points; ++i) {
      const double value = values[static_cast<std::size_t>(i)];
      if (!std::isfinite(value)) continue;
      sum += value;
      count += 1.0;
    }
    out.push_back(count > 0.0 ? sum / count : std::numeric_limits<double>::quiet_NaN());
  }
  return out;
}

std::vector<Phase> phases(const std::vector<TrainRecord>& records) {
  std::vector<Phase> out;
  double total = 0.0;
  for (const auto& record : records) total += finite_or_zero(record.step_s);
  double rest = total;
  for (const auto& part : parts_of(records)) {
    double seconds = 0.0;
    for (const auto& record : records) seconds += finite_or_zero(record.*part.member);
    out.push_back({part.name, seconds});
    rest -= seconds;
  }
  out.push_back({rest_name(records), std::max(rest, 0.0)});
  return out;
}

std::int64_t smoothing_steps(std::size_t logged_steps) {
  return std::max<std::int64_t>(1, static_cast<std::int64_t>(logged_steps) / 60);
}

Scale loss_scale(const Metrics& metrics) {
  return scale_for(std::max(largest(tokens_of(metrics.train, 1.0)), largest(tokens_of(metrics.valid, 1.0))));
}

Chart loss_chart(const Metrics& metrics) {
  const Scale scale = loss_scale(metrics);
  Chart chart{.x_label = with_unit("tokens seen", scale.suffix), .y_label = "loss (nats per token)"};
  const auto x = tokens_of(metrics.train, scale.divisor);
  const auto loss = column(metrics.train, &TrainRecord::loss);
  if (!x.empty()) {
    chart.series.push_back(line("train, each step", 1, Mark::kFaintLine, x, loss));
    chart.series.push_back(
        line("train, smoothed", 1, Mark::kLine, x, smoothed(loss, smoothing_steps(loss.size()))));
  }
  if (!metrics.valid.empty()) {
    std::vector<double> valid;
    for (const auto& record : metrics.valid) valid.push_back(record.loss);
    chart.series.push_back({.label = "valid",
                            .colour = 2,
                            .mark = Mark::kPoints,
                            .x = tokens_of(metrics.valid, scale.divisor),
                            .y = std::move(valid)});
    constexpr int kFirstColour = 3;
    constexpr int kLastColour = 6;
    int colour = kFirstColour;
    for (const auto& corpus : metrics.valid.back().corpora) {
      chart.series.push_back({.label = "valid, " + corpus.corpus,
                              .colour = colour,
                              .mark = Mark::kPoints,
                              .x = tokens_of(metrics.valid, scale.divisor),
                              .y = losses_of(metrics.valid, corpus.corpus)});
      colour = colour == kLastColour ? kFirstColour : colour + 1;
    }
  }
  return chart;
}

Chart speed_chart(const Metrics& metrics) {
  const auto speed = column(metrics.train, &TrainRecord::tokens_per_s);
  const Scale scale = scale_for(largest(speed));
  std::vector<double> scaled;
  for (const double value : speed) scaled.push_back(value / scale.divisor);
  const auto x = steps_of(metrics.train);
  return {.x_label = "step",
          .y_label = with_unit("tokens/s", scale.suffix),
          .y_low = 0.0,
          .series = {line("each step", 1, Mark::kFaintLine, x, scaled),
                     line("smoothed", 1, Mark::kLine, x, smoothed(scaled, smoothing_steps(scaled.size())))}};
}

Chart time_chart(const Metrics& metrics) {
  const auto step_s = thinned(column(metrics.train, &TrainRecord::step_s), kAreaPoints);
  const auto x = thinned(steps_of(metrics.train), kAreaPoints);
  const auto parts = parts_of(metrics.train);
  std::vector<double> sum(step_s.size(), 0.0);
  Chart chart{.x_label = "step", .y_label = "share of a step's time (%)", .y_low = 0.0, .y_high = 100.0};
  int colour = 1;
  for (const auto& part : parts) {
    const auto seconds = thinned(column(metrics.train, part.member), kAreaPoints);
    Series series{.label = part.name, .colour = colour++, .mark = Mark::kArea, .x = x};
    for (std::size_t i = 0; i < sum.size(); ++i) {
      sum[i] += step_s[i] > 0.0 ? 100.0 * finite_or_zero(seconds[i]) / step_s[i] : 0.0;
      series.y.push_back(std::min(sum[i], 100.0));
    }
    chart.series.push_back(std::move(series));
  }
  chart.series.push_back({.label = rest_name(metrics.train),
                          .colour = 6,
                          .mark = Mark::kArea,
                          .x = x,
                          .y = std::vector<double>(x.size(), 100.0)});
  std::reverse(chart.series.begin(), chart.series.end());  // the tallest first, the others over it
  return chart;
}

Chart rate_chart(const Metrics& metrics) {
  const auto lr = column(metrics.train, &TrainRecord::lr);
  std::vector<double> scaled;
  for (const double value : lr) scaled.push_back(value * 1e3);
  return {.x_label = "step",
          .y_label = "learning rate (1/1000)",
          .y_low = 0.0,
          .series = {line("learning rate", 3, Mark::kLine, steps_of(metrics.train), scaled)}};
}

Chart norm_chart(const Metrics& metrics) {
  const auto x = steps_of(metrics.train);
  const auto norm = column(metrics.train, &TrainRecord::grad_norm);
  return {.x_label = "step",
          .y_label = "gradient norm, before clipping",
          .y_low = 0.0,
          .series = {line("each step", 4, Mark::kFaintLine, x, norm),
                     line("smoothed", 4, Mark::kLine, x, smoothed(norm, smoothing_steps(norm.size())))}};
}

}  // namespace sluice::study
