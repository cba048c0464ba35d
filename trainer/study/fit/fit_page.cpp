#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <set>

#include "trainer/study/fit/fit_charts.h"
#include "trainer/study/fit/fit_tables.h"

namespace sluice::study {
namespace {

constexpr std::array<Form, 4> kForms = {Form::kParams, Form::kTokens, Form::kParamsTokens, Form::kCompute};

std::string label_of(const Fit& fit) {
  std::string label = family_name(fit.family) + ", " + fit.formula();
  if (fit.count != Count::kAll) label += fmt::format(", {}", name_of(fit.count));
  return label;
}

void add_remarks(const Fit& fit, std::vector<Part>& parts) {
  if (!fit.carried())
    parts.emplace_back(
        Paragraph{fmt::format("{}: refused: {}.", label_of(fit), fit.refusal), Tone::kWarning});
  for (const auto& warning : fit.warnings)
    parts.emplace_back(Paragraph{fmt::format("{}: {}.", label_of(fit), warning), Tone::kWarning});
}

const Fit* first_carried(const Analysis& analysis, Form form) {
  const auto found =
      std::ranges::find_if(analysis.fits, [&](const Fit& fit) { return fit.form == form && fit.carried(); });
  return found == analysis.fits.end() ? nullptr : &*found;
}

std::string form_title(Form form) {
  switch (form) {
    case Form::kParams:
      return "Loss of size: L(N) = E + A / N^a";
    case Form::kTokens:
      return "Loss of tokens: L(D) = E + B / D^b";
    case Form::kParamsTokens:
      return "Loss of size and tokens: L(N, D) = E + A / N^a + B / D^b";
    case Form::kCompute:
      return "Loss along the frontier: L(C) = E + A / C^a";
    case Form::kRate:
      break;
  }
  return "Learning rate of size: LR(N) = A / N^a";
}

void add_form(const Analysis& analysis, Form form, std::vector<Part>& parts) {
  if (std::ranges::none_of(analysis.fits, [&](const Fit& fit) { return fit.form == form; })) return;
  parts.emplace_back(Heading{form_title(form), 3});
  const Fit* shown = first_carried(analysis, form);
  if (shown != nullptr) {
    if (form == Form::kParamsTokens) {
      for (const auto& fit : analysis.fits)
        if (fit.form == form && fit.count == shown->count && fit.carried()) {
          Figure figure = surface_figure(fit);
          figure.title = family_name(fit.family);
          parts.emplace_back(std::move(figure));
        }
      Figure residuals = residual_figure(analysis, form, shown->count);
      residuals.title = "Residuals";
      parts.emplace_back(std::move(residuals));
    } else {
      parts.emplace_back(fit_figure(analysis, form, shown->count));
    }
    parts.emplace_back(fit_table(analysis, form));
    parts.emplace_back(judgement_table(analysis, form));
  }
  for (const auto& fit : analysis.fits)
    if (fit.form == form) add_remarks(fit, parts);
}

void add_iso_flops(const Analysis& analysis, std::vector<Part>& parts) {
  if (analysis.iso_flops.empty()) return;
  parts.emplace_back(Heading{"Best size at equal FLOPs: parabolas", 3});
  for (const auto& iso : analysis.iso_flops) {
    if (iso.count != Count::kAll) continue;
    if (std::ranges::none_of(iso.groups, [](const IsoFlop& group) { return group.refusal.empty(); }))
      continue;
    Figure figure = iso_flop_figure(iso);
    figure.title = family_name(iso.family);
    parts.emplace_back(std::move(figure));
  }
  parts.emplace_back(iso_flop_table(analysis));
  for (const auto& iso : analysis.iso_flops)
    if (!iso.exponents.empty())
      parts.emplace_back(Paragraph{fmt::format(
          "{}: along the minima the best N grows as C to the {}, the best D as C to the {}.",
          family_name(iso.family) + (iso.count == Count::kAll ? "" : fmt::format(", {}", name_of(iso.count))),
          estimate_text(iso.exponents[0]), estimate_text(iso.exponents[1]))});
}

bool excludes_zero(const Interval& interval) { return interval.low > 0.0 || interval.high < 0.0; }

void add_comparisons(const Analysis& analysis, std::vector<Part>& parts) {
  if (analysis.comparisons.empty()) return;
  parts.emplace_back(Heading{"Families beside each other", 3});
  for (Grid grid : {comparison_table(analysis), multiplier_table(analysis)})
    if (!grid.rows.empty()) parts.emplace_back(std::move(grid));
  for (const auto& one : analysis.comparisons) {
    std::string label = fmt::format("{} and {}, {}{}", family_name(one.first), family_name(one.second),
                                    name_of(one.form), one.floor == Floor::kZero ? ", E = 0" : "");
    if (one.count != Count::kAll) label += fmt::format(", {}", name_of(one.count));
    if (!one.refusal.empty()) {
      parts.emplace_back(Paragraph{fmt::format("{}: refused: {}.", label, one.refusal), Tone::kWarning});
      continue;
    }
    if (!std::isnan(one.exponent_difference.interval.low))
      parts.emplace_back(Paragraph{fmt::format(
          "{}: the exponents are {}; one for both costs {:.3g} more in the objective of {:.3g}.", label,
          excludes_zero(one.exponent_difference.interval) ? "told apart" : "not told apart",
          std::max(0.0, one.shared_objective - one.separate_objective), one.separate_objective)});
    for (const auto& warning : one.warnings)
      parts.emplace_back(Paragraph{label + ": " + warning + ".", Tone::kWarning});
  }
}

void add_rates(const Analysis& analysis, std::vector<Part>& parts) {
  if (analysis.rate_sweeps.empty()) return;
  parts.emplace_back(Heading{form_title(Form::kRate), 3});
  std::set<std::string> families;
  for (const auto& sweep : analysis.rate_sweeps) families.insert(sweep.family);
  for (const auto& family : families) {
    Figure figure = sweep_figure(analysis.rate_sweeps, family);
    figure.title = family_name(family);
    parts.emplace_back(std::move(figure));
  }
  parts.emplace_back(rate_table(analysis));
  parts.emplace_back(rate_figure(analysis));
  for (const auto& fit : analysis.rates) {
    if (fit.carried())
      parts.emplace_back(
          Paragraph{fmt::format("{}: A = {}, a = {}.", label_of(fit), estimate_text(fit.parameters[0]),
                                estimate_text(fit.parameters[1]))});
    add_remarks(fit, parts);
  }
}

std::string method(const Analysis& analysis) {
  const Fit* any = nullptr;
  for (const auto& fit : analysis.fits)
    if (fit.carried() && any == nullptr) any = &fit;
  std::string text =
      "Each law is fitted at once to all its rows: the least sum of Huber losses of log(measured) less "
      "log(predicted), "
      "from many starts, by Ceres.";
  if (any != nullptr && !any->draws.empty())
    text += fmt::format(
        " In brackets: {:.0f} % intervals of {} draws with replacement of whole trunks or runs, never of "
        "branches of "
        "one, widened for their small number.",
        100.0 * any->level, any->draws.size());
  return text;
}

}  // namespace

std::vector<Part> fit_parts(const Analysis& analysis) {
  std::vector<Part> parts = {Heading{"Fits"}, Paragraph{method(analysis)}};
  parts.emplace_back(use_table(analysis.points));
  for (const Form form : kForms) add_form(analysis, form, parts);
  add_iso_flops(analysis, parts);
  add_comparisons(analysis, parts);
  add_rates(analysis, parts);
  return parts;
}

Page fit_page(const Analysis& analysis) {
  const std::filesystem::path source = analysis.points.source;
  Page page{.title = "Fits of " + source.filename().string(),
            .subtitle = fmt::format("{} rows in fits, {} left out", analysis.points.points.size(),
                                    analysis.points.left_out.size())};
  page.append(fit_parts(analysis));
  return page;
}

}  // namespace sluice::study
