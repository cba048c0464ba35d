#pragma once

#include <map>
#include <string>
#include <vector>

#include "trainer/study/experiment/cells.h"
#include "trainer/study/experiment/run.h"

namespace sluice::study {

/// What has become of runs, by id: a final loss in nats a token, infinite where the run failed. Runs that
/// have not ended are not in it.
using Losses = std::map<std::string, double>;

/// One tuning run: a row of lr.csv once it has a loss.
struct TuningPoint {
  std::string run{};
  std::string family{};
  std::int64_t params = 0;
  double value = 0;
  std::uint64_t seed = 0;
  bool best = false;
  bool interior = false;  ///< of its cell
  bool done = false;      ///< its cell's tuning has ended
};

struct Expansion {
  std::vector<Run> runs{};     ///< each id once
  std::int64_t undecided = 0;  ///< runs whose tuned value is not known yet
  std::vector<TuningPoint> tuning{};
};

/// All runs that are known by now: a pure function. A loss study's main runs appear as their tuned value
/// becomes known from `losses`, and widened tuning runs as they are needed. `directory` is the study's.
[[nodiscard]] Expansion expand(const StudySpec& spec, const std::vector<Cell>& cells, const Losses& losses,
                               const std::string& directory);

}  // namespace sluice::study
