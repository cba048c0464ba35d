#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

// What a study file says (docs/studies.md), read and range-checked by trainer/cli/study_file.h.

namespace sluice::study {

enum class StudyKind { kLoss, kSpeed };

/// Settings of a run: "optim.lr" -> its canonical text, as resolved.ini has it.
using Values = std::map<std::string, std::string>;

struct Family {
  std::string name{};
  Values values{};
};

/// A model size. What it means for one family alone stands in `of_family`, over `values`.
struct Size {
  std::string name{};
  Values values{};
  std::map<std::string, Values> of_family{};
  std::vector<std::uint64_t> seeds{};  ///< empty: the study's
  std::vector<double> budgets{};       ///< empty: the study's
};

/// A key whose every value is run. Each combination of axes is a family of its own in the tables.
struct SweptKey {
  std::string key{};
  std::vector<std::string> values{};
};

enum class BudgetUnit { kTokens, kFlops, kTokensPerParameter };

/// How long the runs of a loss study train: grid (tokens), iso-FLOP (flops) or ladder (tokens a parameter).
struct Budgets {
  BudgetUnit unit = BudgetUnit::kTokens;
  std::vector<double> amounts{};
  bool branches = false;  ///< one WSD trunk for each seed; smaller budgets decay from its checkpoints
};

/// A key that is tuned instead of given. values empty: nothing is tuned.
struct Tune {
  std::string key = "optim.lr";
  std::vector<double> values{};
  double factor = 2;                 ///< by which the grid grows until the best is interior
  std::vector<std::string> sizes{};  ///< tuned there; elsewhere the power law through these
  double budget = 0;                 ///< in the budgets' unit; 0: the smallest
  std::int64_t most = 8;             ///< values of one cell, widened ones included
};

struct Speed {
  std::vector<std::string> modes = {"strong"};  ///< strong | weak
  std::vector<std::int64_t> ranks = {1};
  std::int64_t weak_batch = 0;  ///< sequences of each rank in weak mode; 0: train.global_batch
  std::int64_t steps = 20;
  std::int64_t warmup = 3;
  std::int64_t vocabulary = 256;
  std::string cluster{};  ///< file of `sluice bench calibrate` that each cell is predicted from; empty: none
};

struct StudySpec {
  std::string name{};
  StudyKind kind = StudyKind::kLoss;
  std::string dir{};
  std::int64_t jobs = 1;   ///< runs side by side on this machine
  std::int64_t gpus = 0;   ///< GPUs that jobs are dealt out to; 0: every job sees all of them
  std::int64_t ranks = 1;  ///< of a run of a loss study
  std::vector<std::uint64_t> seeds = {1};
  Values settings{};
  std::vector<Family> families{};
  std::vector<Size> sizes{};
  std::vector<SweptKey> axes{};
  Budgets budgets{};
  Tune tune{};
  Speed speed{};
};

}  // namespace sluice::study
