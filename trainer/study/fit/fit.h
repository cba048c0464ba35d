#pragma once

#include <array>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "trainer/study/fit/points.h"

// Laws of loss, after Kaplan et al. 2020 (arXiv 2001.08361) and Hoffmann et al. 2022 (arXiv 2203.15556,
// section 3.3): all parameters at once minimise the sum over rows of the Huber loss of log(measured) -
// log(predicted), from many starts, by Ceres.

namespace sluice::study {

enum class Form {
  kParams,        ///< L(N) = E + A / N^a, of runs that saw equally many tokens
  kTokens,        ///< L(D) = E + B / D^b, of runs of one size
  kParamsTokens,  ///< L(N, D) = E + A / N^a + B / D^b
  kCompute,       ///< L(C) = E + A / C^a, of cells than which none had less loss at no more FLOPs
  kRate,          ///< LR(N) = A / N^a, of the best learning rate of each size
};
/// Whether there is a loss E that remains: without it a law is a straight line in logarithms.
enum class Floor { kFitted, kZero };

/// "L(N)", ...
[[nodiscard]] const char* name_of(Form form);

struct FitOptions {
  Form form = Form::kParams;
  Floor floor = Floor::kFitted;
  Count count = Count::kAll;
  double huber = 1e-3;            ///< in log-loss: residuals above it count linearly
  std::int64_t resamples = 1000;  ///< of the bootstrap; 0: no intervals
  std::uint64_t seed = 1;         ///< of the bootstrap
  double level = 0.95;            ///< of intervals
};

/// NaN: there is none.
struct Interval {
  double low = std::numeric_limits<double>::quiet_NaN();
  double high = std::numeric_limits<double>::quiet_NaN();
};
struct Estimate {
  std::string name = {};
  double value = std::numeric_limits<double>::quiet_NaN();
  Interval interval = {};
};

/// A law with numbers: E + sum over t of scale[t] / x[t]^exponent[t]. E is 0 where there is none.
struct Law {
  std::size_t terms = 1;
  double floor = 0.0;
  std::array<double, 2> scale = {0.0, 0.0};
  std::array<double, 2> exponent = {0.0, 0.0};

  [[nodiscard]] double at(double x, double second = 1.0) const;
  /// The x at which a law of one term has this value; infinite where it never falls so low, 0 where it is
  /// never so high.
  [[nodiscard]] double reaches(double value) const;
};

/// One row, or (for L(C)) the mean of a cell's seeds, beside the law.
struct FitRow {
  double x = 0.0;       ///< N, D or C
  double second = 1.0;  ///< D, of L(N, D)
  double measured = 0.0;
  double predicted = 0.0;
  bool above_one_epoch = false;

  [[nodiscard]] double residual() const;  ///< log(measured) - log(predicted)
};

/// A law fitted to all but the largest, and what it then says of them.
struct HeldOut {
  std::string what = {};     ///< "N = 3.6e+08"; "" where nothing could be left out
  std::string refusal = {};  ///< why not
  double measured = 0.0;     ///< mean over the rows left out
  double predicted = 0.0;
  [[nodiscard]] double error() const { return predicted / measured - 1.0; }
};

/// A fit, or the reason why the data cannot carry one.
struct Fit {
  Form form = Form::kParams;
  Floor floor = Floor::kFitted;
  Count count = Count::kAll;
  std::string family = {};
  std::string refusal = {};                ///< not empty: there is no law
  std::vector<std::string> warnings = {};  ///< what a reader must know beside the numbers
  std::string rows_note = {};              ///< which rows a slice is of: "D = 1.2e+09"

  Law law = {};
  std::vector<Estimate> parameters = {};  ///< E, A, a, B, b as the form has them
  std::vector<Estimate> derived = {};     ///< of L(N, D): exponents of the best N and D for a given C
  std::vector<FitRow> rows = {};
  std::int64_t cells = 0;     ///< of different N, D or C
  std::int64_t units = 0;     ///< trunks or runs, the bootstrap's
  std::int64_t starts = 0;    ///< from which the law was sought
  std::int64_t agreeing = 0;  ///< of these, those that led to it
  double objective = 0.0;     ///< sum of Huber losses, in units of huber^2
  HeldOut held_out = {};
  std::vector<Law> draws = {};  ///< of the bootstrap
  double spread = 1.0;          ///< of the draws about the law
  double level = 0.95;          ///< of intervals

  [[nodiscard]] bool carried() const { return refusal.empty(); }
  [[nodiscard]] std::string formula() const;  ///< "L(N) = E + A/N^a"
};

/// "": fits work. Else what this build is made without, and how to get it.
[[nodiscard]] std::string why_no_fits();

/// Fits one family's points. Intervals come from a bootstrap that draws units (trunks, never branches of one)
/// with replacement and fits each draw from the law on; a draw too poor for the form is drawn again, and
/// from fewer than four units nothing is drawn. Draws
/// are spread about the law by sqrt(G/(G-1) (n-1)/(n-p)) times the quantile of Student's t for min(G-1, n-p)
/// over the normal one (G units, n rows, p parameters: the correction for few clusters that regressions use),
/// since a bootstrap of few units is too narrow; scales, E and their like in logarithms. Throws
/// train::InputError where why_no_fits().
[[nodiscard]] Fit fit_loss(const std::vector<Point>& points, const FitOptions& options);

/// The interval of a fit's law at a place, from its draws.
[[nodiscard]] Interval interval_at(const Fit& fit, double x, double second = 1.0);

/// The best learning rate of a size.
struct RateOptimum {
  std::string family = {};
  double params = 0.0;
  double lr = 0.0;
};
/// LR(N) through one family's optima; of fewer than four sizes without intervals.
[[nodiscard]] Fit fit_rate(const std::vector<RateOptimum>& optima, const FitOptions& options);

}  // namespace sluice::study
