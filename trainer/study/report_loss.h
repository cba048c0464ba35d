#pragma once

#include <optional>
#include <string>
#include <vector>

#include "trainer/study/fit/analysis.h"
#include "trainer/study/page.h"
#include "trainer/study/run_curves.h"
#include "trainer/study/study_files.h"

namespace sluice::study {

/// Runs of one family, size, budget, learning rate and use: the mean over seeds.
struct LossCell {
  std::string family;
  std::string model;
  std::string use;  ///< "": enters fits; else why not
  double params = 0.0;
  double tokens = 0.0;
  double flops = 0.0;
  double epochs = 0.0;
  double lr = 0.0;
  std::vector<double> losses;  ///< one for each seed

  [[nodiscard]] double mean() const;
  /// Largest less smallest; NaN of one seed.
  [[nodiscard]] double spread() const;
};
/// Of points.csv, tuning runs left out, in the order of family, N, D. Throws train::InputError for a number
/// that is none.
[[nodiscard]] std::vector<LossCell> loss_cells(const Table& points);

/// One size's tuning: loss against learning rate.
struct RateCurve {
  std::string family;
  double params = 0.0;
  std::vector<double> lr;    ///< rising
  std::vector<double> loss;  ///< mean over seeds
  double best_lr = 0.0;
  double best_loss = 0.0;
  bool interior = false;  ///< the best has a neighbour on both sides
};
/// Of lr.csv, by family and N.
[[nodiscard]] std::vector<RateCurve> rate_curves(const Table& rates);

/// Best loss, runs, FLOPs and time of a loss study.
[[nodiscard]] KeyNumbers loss_key_numbers(const StudyFiles& study);

/// The laws that points.csv carries, or refuses to; nothing where no run may enter one yet. Throws as
/// points_of() does.
[[nodiscard]] std::optional<Analysis> analysis_of(const StudyFiles& study);

/// Curves of all runs that left metrics, final losses, loss against learning rate, fits.
[[nodiscard]] std::vector<Part> loss_parts(const StudyFiles& study, const std::vector<Overlay>& overlays);

/// Loss against learning rate: a chart for each family, best cells at an edge as rings and dashes, what is
/// not finished, and the laws LR(N) of `rates`; nothing without lr.csv.
[[nodiscard]] std::vector<Part> rate_parts(const StudyFiles& study, const Analysis* rates);

}  // namespace sluice::study
