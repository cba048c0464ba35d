#pragma once

#include <cstddef>
#include <filesystem>
#include <limits>
#include <string>
#include <vector>

#include "trainer/study/csv.h"

namespace sluice::study {

/// Which parameters count as N. A table of published models may know one of them alone.
enum class Count { kAll, kNoEmbedding, kNoSpatial };
/// "N", "N without embeddings", "N without spatial weights".
[[nodiscard]] const char* name_of(Count count);
/// As tables and charts say it: "all" where the points are of no family.
[[nodiscard]] std::string family_name(const std::string& family);

/// One trained model: a row of points.csv (docs/fits.md). NaN and "" stand for what the file does not say.
struct Point {
  static constexpr double kUnknown = std::numeric_limits<double>::quiet_NaN();

  std::string family = {};
  double params = kUnknown;
  double params_no_embedding = kUnknown;
  double params_no_spatial = kUnknown;
  double tokens = kUnknown;         ///< trained on, in all epochs
  double unique_tokens = kUnknown;  ///< of the corpus that tokens come from
  double epochs = kUnknown;
  double flops = kUnknown;  ///< useful training FLOPs of the whole run
  double loss = kUnknown;   ///< nats per token, on held-out text
  double lr = kUnknown;
  std::string seed = {};
  std::string trunk = {};  ///< the run that this one branched from, under its seed
  std::string run = {};
  std::string use = {};   ///< "" or "fit"; else why the row enters no fit
  std::string unit = {};  ///< what a bootstrap draws whole: trunk and seed, else run and seed, else the row

  [[nodiscard]] double count(Count which) const;
  [[nodiscard]] bool above_one_epoch() const;
};

/// A points file: rows that enter fits, and those that do not.
struct Points {
  std::string source;
  std::vector<Point> points;
  std::vector<Point> left_out;

  /// In the file's order.
  [[nodiscard]] std::vector<std::string> families() const;
  [[nodiscard]] std::vector<Point> of(const std::string& family) const;
};

/// Throws train::InputError with every fault: no column loss, none of params, tokens and flops, a number that
/// is none or not positive, an entering row without a loss, no entering row at all.
[[nodiscard]] Points points_of(const Table& table);
[[nodiscard]] Points read_points(const std::filesystem::path& file);

}  // namespace sluice::study
