#include "trainer/study/fit/analysis.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <set>
#include <utility>

namespace sluice::study {
namespace {

constexpr std::array<Count, 3> kCounts = {Count::kAll, Count::kNoEmbedding, Count::kNoSpatial};

FitOptions fit_options(const AnalysisOptions& options) {
  return {
      .huber = options.huber, .resamples = options.resamples, .seed = options.seed, .level = options.level};
}

/// How many different values a column has; none where the file lacks it.
std::size_t different(const std::vector<Point>& points, double Point::*member) {
  std::set<double> values;
  for (const auto& point : points)
    if (std::isfinite(point.*member)) values.insert(point.*member);
  return values.size();
}

/// Few cells beyond the parameters of a law with E: the law without E is shown beside it.
constexpr std::int64_t kFewSpare = 2;

struct Wanted {
  Form form;
  Count count = Count::kAll;
};

double Point::*member_of(Count count) {
  switch (count) {
    case Count::kNoEmbedding:
      return &Point::params_no_embedding;
    case Count::kNoSpatial:
      return &Point::params_no_spatial;
    case Count::kAll:
      break;
  }
  return &Point::params;
}

/// Forms whose variables vary in the file.
std::vector<Wanted> wanted_forms(const std::vector<Point>& points) {
  std::vector<Wanted> wanted;
  for (const Count count : kCounts)
    if (different(points, member_of(count)) > 1) wanted.push_back({Form::kParams, count});
  const bool tokens = different(points, &Point::tokens) > 1;
  if (tokens) wanted.push_back({Form::kTokens});
  for (const Count count : kCounts)
    if (tokens && different(points, member_of(count)) > 1) wanted.push_back({Form::kParamsTokens, count});
  if (different(points, &Point::flops) > 1) wanted.push_back({Form::kCompute});
  return wanted;
}

bool scanty(const Fit& fit) {
  return fit.cells - static_cast<std::int64_t>(fit.parameters.size()) < kFewSpare;
}

/// Whether a carried fit of this form says so little of a family.
bool scanty_family(const Analysis& analysis, const Wanted& wanted, const std::string& family) {
  return std::ranges::any_of(analysis.fits, [&](const Fit& fit) {
    return fit.family == family && fit.form == wanted.form && fit.count == wanted.count &&
           fit.floor == Floor::kFitted && fit.carried() && scanty(fit);
  });
}

void fit_families(const std::vector<std::string>& families, const AnalysisOptions& options, Analysis& out) {
  for (const auto& wanted : wanted_forms(out.points.points))
    for (const auto& family : families) {
      FitOptions one = fit_options(options);
      one.form = wanted.form;
      one.count = wanted.count;
      const auto points = out.points.of(family);
      out.fits.push_back(fit_loss(points, one));
      if (wanted.form == Form::kParamsTokens || (out.fits.back().carried() && !scanty(out.fits.back())))
        continue;
      one.floor = Floor::kZero;
      Fit line = fit_loss(points, one);
      if (line.carried()) out.fits.push_back(std::move(line));
    }
}

void compare_families(const std::vector<std::string>& families, const AnalysisOptions& options,
                      Analysis& out) {
  for (const auto& wanted : wanted_forms(out.points.points)) {
    if (wanted.form != Form::kParams && wanted.form != Form::kCompute) continue;
    for (std::size_t i = 0; i < families.size(); ++i)
      for (std::size_t k = i + 1; k < families.size(); ++k) {
        FitOptions one = fit_options(options);
        one.form = wanted.form;
        one.count = wanted.count;
        out.comparisons.push_back(compare(out.points.of(families[i]), out.points.of(families[k]), one));
        const bool enough = out.comparisons.back().refusal.empty() &&
                            !scanty_family(out, wanted, families[i]) &&
                            !scanty_family(out, wanted, families[k]);
        if (enough) continue;
        one.floor = Floor::kZero;
        Comparison lines = compare(out.points.of(families[i]), out.points.of(families[k]), one);
        if (lines.refusal.empty()) out.comparisons.push_back(std::move(lines));
      }
  }
}

}  // namespace

Analysis analyse(Points points, const AnalysisOptions& options) {
  Analysis out{.points = std::move(points)};
  std::vector<std::string> families = out.points.families();
  std::erase_if(families, [&](const std::string& family) { return out.points.of(family).empty(); });
  fit_families(families, options, out);
  for (const Count count : kCounts)
    for (const auto& family : families) {
      FitOptions one = fit_options(options);
      one.count = count;
      IsoFlops iso = fit_iso_flops(out.points.of(family), one);
      if (iso.refusal.empty()) out.iso_flops.push_back(std::move(iso));
    }
  compare_families(families, options, out);
  out.rate_sweeps = rate_sweeps(out.points);
  out.rates = fit_rates(out.rate_sweeps, fit_options(options));
  return out;
}

}  // namespace sluice::study
