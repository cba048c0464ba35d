#include "trainer/study/report_compare.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "trainer/study/compare_studies.h"
#include "trainer/study/curves.h"
#include "trainer/study/numbers.h"
#include "trainer/study/parting.h"
#include "trainer/study/report_runs.h"
#include "trainer/study/study_files.h"
#include "trainer/train/errors.h"

namespace sluice::study {
namespace {

constexpr std::int64_t kPoints = 600;

std::string step_text(const std::optional<Parting::Step>& step) {
  return step ? fmt::format("step {}", step->step) : "none";
}

std::vector<std::string> parting_row(const char* what, const std::optional<Parting::Step>& step) {
  if (!step) return {what, "none", "", "", ""};
  return {what, std::to_string(step->step), fmt::format("{:.9g}", step->first),
          fmt::format("{:.9g}", step->second), significant(step->difference(), 4)};
}

Grid parting_table(const Parting& parting, const NamedRun& a, const NamedRun& b) {
  return {.name = "parting",
          .columns =
              {{"train loss", Align::kText}, {"step"}, {a.name}, {b.name}, {"difference (nats per token)"}},
          .rows = {parting_row("first that differs at all", parting.any),
                   parting_row("first that differs by more than 0.1 %", parting.visible),
                   parting_row("largest difference", parting.largest),
                   parting_row("last common step", parting.last)}};
}

KeyNumbers parting_numbers(const Parting& parting) {
  KeyNumbers key;
  key.numbers.push_back({"losses part", step_text(parting.any),
                         parting.any ? "by " + significant(parting.any->difference(), 3) + " nats per token"
                                     : fmt::format("equal in all {} common steps", parting.compared)});
  key.numbers.push_back({"by more than 0.1 %", step_text(parting.visible),
                         parting.visible
                             ? "by " + significant(parting.visible->difference(), 3) + " nats per token"
                             : "of the loss, in no common step"});
  if (parting.last)
    key.numbers.push_back({"at the end", significant(parting.last->difference(), 3),
                           fmt::format("nats per token, second less first, step {}", parting.last->step)});
  return key;
}

Figure difference_figure(const Metrics& first, const Metrics& second) {
  std::vector<double> x;
  std::vector<double> y;
  std::size_t at = 0;
  for (const auto& record : first.train) {
    while (at < second.train.size() && second.train[at].step < record.step) ++at;
    if (at == second.train.size() || second.train[at].step != record.step) continue;
    x.push_back(static_cast<double>(record.step));
    y.push_back(second.train[at].loss - record.loss);
  }
  const auto calm = smoothed(y, smoothing_steps(y.size()));
  Chart chart{.x_label = "step", .y_label = "difference of train loss (nats per token)"};
  const auto add = [&](const char* label, Mark mark, const std::vector<double>& values) {
    chart.series.push_back(
        {.label = label, .mark = mark, .x = thinned(x, kPoints), .y = thinned(values, kPoints)});
  };
  add("each step", Mark::kFaintLine, y);
  add("smoothed", Mark::kLine, calm);
  return {"loss-difference", std::move(chart), {}};
}

Page compare_runs(const std::filesystem::path& first, const std::filesystem::path& second,
                  const std::vector<Overlay>& overlays) {
  const auto runs = read_runs({first, second});
  const NamedRun& a = runs[0];
  const NamedRun& b = runs[1];
  const Parting parting = parting_of(a.files.metrics, b.files.metrics);
  Page page{.title = a.name + " and " + b.name, .subtitle = "Two runs of Sluice side by side"};
  if (parting.compared == 0) {
    page.add(Paragraph{"The runs have no step in common.", Tone::kWarning});
  } else {
    page.add(parting_numbers(parting));
    page.append({Heading{"Where the losses part"}, parting_table(parting, a, b)});
    if (!parting.same_tokens)
      page.add(Paragraph{"At the same step the runs had not seen equally many tokens.", Tone::kWarning});
    page.add(difference_figure(a.files.metrics, b.files.metrics));
    page.add(Paragraph{fmt::format("{} less {}.", b.name, a.name)});
  }
  page.add(Heading{"Loss curves"});
  page.append(curve_parts(curves_of(runs), overlays));
  page.add(Heading{"Final numbers"});
  page.add(final_table(runs));
  page.append(origin_parts({a.origin, b.origin}));
  return page;
}

}  // namespace

Page compare_page(const std::filesystem::path& first, const std::filesystem::path& second,
                  const std::vector<Overlay>& overlays) {
  if (is_study(first) != is_study(second))
    throw train::InputError(
        fmt::format("--compare {} {}: must be two runs or two studies; {} is a study alone", first.string(),
                    second.string(), (is_study(first) ? first : second).string()));
  if (is_study(first) && !overlays.empty())
    throw train::InputError("--overlay: two studies side by side have no curves to draw another with");
  return is_study(first) ? compare_studies(first, second) : compare_runs(first, second, overlays);
}

}  // namespace sluice::study
