#include <fmt/format.h>

#include <cmath>
#include <cstdio>
#include <filesystem>
#include <limits>
#include <nlohmann/json.hpp>

#include "trainer/cli/arguments.h"
#include "trainer/cli/command.h"
#include "trainer/cli/output.h"
#include "trainer/cli/page_text.h"
#include "trainer/cli/save_page.h"
#include "trainer/study/csv.h"
#include "trainer/study/fit/fit_tables.h"
#include "trainer/train/errors.h"
#include "trainer/train/files.h"

namespace sluice::cli {
namespace {

using Json = nlohmann::ordered_json;

const std::vector<Flag> kFitFlags = {
    {.name = "--out",
     .value_name = "DIR",
     .help = "also write fit.html, fit.md and, in the folder fit, all curves, laws and residuals as CSV"},
    {.name = "--resamples",
     .value_name = "COUNT",
     .help = "draws of the bootstrap; 0: no intervals",
     .default_value = "1000"},
    {.name = "--seed", .value_name = "NUMBER", .help = "of these draws", .default_value = "1"},
    {.name = "--level", .value_name = "SHARE", .help = "of the intervals", .default_value = "0.95"},
    {.name = "--huber",
     .value_name = "DELTA",
     .help = "residuals of log-loss above it count linearly",
     .default_value = "0.001"},
    json_flag()};

/// Numbers that are not finite become null.
Json number(double value) { return std::isfinite(value) ? Json(value) : Json(nullptr); }

Json estimate_json(const study::Estimate& estimate) {
  return {{"value", number(estimate.value)},
          {"low", number(estimate.interval.low)},
          {"high", number(estimate.interval.high)}};
}

Json estimates_json(const std::vector<study::Estimate>& estimates) {
  Json out = Json::object();
  for (const auto& one : estimates) out[one.name] = estimate_json(one);
  return out;
}

Json fit_json(const study::Fit& fit) {
  Json out = {{"family", fit.family},
              {"form", fit.formula()},
              {"count", study::name_of(fit.count)},
              {"refusal", fit.refusal}};
  if (!fit.carried()) return out;
  out.update({{"parameters", estimates_json(fit.parameters)},
              {"derived", estimates_json(fit.derived)},
              {"rows", fit.rows.size()},
              {"rows_of", fit.rows_note},
              {"cells", fit.cells},
              {"units", fit.units},
              {"starts", fit.starts},
              {"agreeing", fit.agreeing},
              {"objective", fit.objective},
              {"warnings", fit.warnings}});
  if (!fit.held_out.what.empty())
    out["largest_left_out"] = {{"what", fit.held_out.what},
                               {"refusal", fit.held_out.refusal},
                               {"measured", fit.held_out.measured},
                               {"predicted", fit.held_out.predicted},
                               {"error", number(fit.held_out.error())}};
  return out;
}

Json iso_json(const study::IsoFlops& iso) {
  Json groups = Json::array();
  for (const auto& group : iso.groups)
    groups.push_back({{"flops", group.flops},
                      {"refusal", group.refusal},
                      {"best_params", estimate_json(group.best_params)},
                      {"best_loss", number(group.best_loss)},
                      {"best_tokens", number(group.best_tokens)},
                      {"warnings", group.warnings}});
  return {{"family", iso.family}, {"groups", groups}, {"exponents", estimates_json(iso.exponents)}};
}

Json comparison_json(const study::Comparison& one) {
  Json out = {{"first", one.first},
              {"second", one.second},
              {"form", study::name_of(one.form)},
              {"count", study::name_of(one.count)},
              {"floor", one.floor == study::Floor::kFitted ? "fitted" : "zero"},
              {"refusal", one.refusal}};
  if (!one.refusal.empty()) return out;
  Json multipliers = Json::array();
  for (const auto& multiplier : one.multipliers) {
    multipliers.push_back({{"loss", multiplier.loss}});
    multipliers.back().update(estimate_json(multiplier.ratio));
  }
  out.update({{"exponent_difference", estimate_json(one.exponent_difference)},
              {"shared_exponent", estimate_json(one.shared_exponent)},
              {"separate_objective", one.separate_objective},
              {"shared_objective", one.shared_objective},
              {"multipliers", multipliers},
              {"shared_multiplier", estimate_json(one.shared_multiplier)},
              {"crossover", estimate_json(one.crossover)},
              {"crossover_measured", one.crossover_measured},
              {"meeting_share", one.meeting_share},
              {"warnings", one.warnings}});
  return out;
}

Json analysis_json(const study::Analysis& analysis) {
  Json out = {{"source", analysis.points.source},
              {"rows", analysis.points.points.size()},
              {"left_out", analysis.points.left_out.size()},
              {"fits", Json::array()},
              {"iso_flops", Json::array()},
              {"comparisons", Json::array()},
              {"rates", Json::array()}};
  for (const auto& fit : analysis.fits) out["fits"].push_back(fit_json(fit));
  for (const auto& iso : analysis.iso_flops) out["iso_flops"].push_back(iso_json(iso));
  for (const auto& one : analysis.comparisons) out["comparisons"].push_back(comparison_json(one));
  for (const auto& fit : analysis.rates) out["rates"].push_back(fit_json(fit));
  return out;
}

void save(const study::Analysis& analysis, const std::filesystem::path& directory) {
  save_page(study::fit_page(analysis), directory / "fit.html");
  train::replace_file(directory / "fit" / "fit-laws.csv", study::csv_text(study::law_table(analysis)));
  train::replace_file(directory / "fit" / "fit-residuals.csv",
                      study::csv_text(study::residual_table(analysis)));
}

int run_fit(const std::vector<std::string>& words, parallel::Communicator&) {
  const Arguments arguments(kFitFlags, words, "POINTS.csv");
  if (const auto why = study::why_no_fits(); !why.empty()) throw train::InputError("fit: " + why);
  study::AnalysisOptions options;
  options.resamples = arguments.integer("--resamples", 0, 1'000'000);
  options.seed =
      static_cast<std::uint64_t>(arguments.integer("--seed", 0, std::numeric_limits<std::int64_t>::max()));
  options.level = arguments.number("--level", 0.5, 0.999);
  options.huber = arguments.number("--huber", 1e-9, 1e9);
  const auto analysis = study::analyse(study::read_points(arguments.positional().front()), options);
  if (arguments.has("--out")) save(analysis, arguments.text("--out"));
  print_result(arguments, analysis_json(analysis), [&] {
    std::fputs(page_text(study::fit_parts(analysis)).c_str(), stdout);
    if (arguments.has("--out"))
      fmt::print("\n{}\n", (std::filesystem::path(arguments.text("--out")) / "fit.html").string());
  });
  return kDone;
}

}  // namespace

Command fit_command() {
  return {
      .name = "fit",
      .summary = "fit laws of loss to anybody's runs, with intervals, and draw them",
      .help =
          "  sluice fit POINTS.csv [--out DIR] [--json]\n\n"
          "A line for each run; columns family, params, tokens, flops, loss (nats a token), seed, of which\n"
          "those may lack that a law does not need, and others as docs/fits.md says. Fitted are L(N), L(D),\n"
          "L(N, D), loss along the frontier of FLOPs, parabolas at equal FLOPs, and families beside each "
          "other;\n"
          "what the rows cannot carry is refused with the reason.\n\n" +
          flag_help(kFitFlags),
      .run = run_fit};
}

}  // namespace sluice::cli
