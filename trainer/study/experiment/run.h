#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "trainer/study/experiment/spec.h"

namespace sluice::study {

/// kTrunk keeps the checkpoints that branches go on from; kBranch is a trunk's smaller budget.
enum class Role { kRun, kTrunk, kBranch, kTuning, kSpeed };
[[nodiscard]] const char* role_name(Role role);

/// Counts of a model that the tables need.
struct ModelCounts {
  std::int64_t params = 0;
  std::int64_t params_no_embedding = 0;
  std::int64_t params_no_spatial = 0;
  double flops_per_token = 0;        ///< useful, of a training step
  std::int64_t tokens_per_step = 0;  ///< all ranks
  std::int64_t corpus_tokens = 0;    ///< of the train split
};

/// One run of a study.
struct Run {
  std::string id{};
  std::string family{};  ///< with the values of axes: "gmlp, optim.weight_decay=0.1"
  std::string model{};   ///< name of the size
  Values values{};       ///< all that the study file sets, and what follows from it for this run: hashed
  Values derived{};   ///< not hashed: what makes it part of the study; of a speed run flags of the benchmark
  Values resolved{};  ///< every setting, defaults included; given by trainer/cli
  Role role = Role::kRun;
  std::string parent{};  ///< a branch's trunk
  std::string mode{};    ///< strong | weak
  std::int64_t ranks = 1;
  std::int64_t steps = 0;       ///< of training
  std::int64_t first_step = 0;  ///< a branch's: the steps that its trunk has done for it
  std::uint64_t seed = 0;
  std::string left_out{};  ///< why its loss may not enter fits; empty: it may
  ModelCounts counts{};

  /// "gmlp m, seed 1, 20971520 tokens, optim.lr 0.002"; a speed run's mode and ranks instead.
  [[nodiscard]] std::string title() const;
  [[nodiscard]] std::int64_t tokens() const { return steps * counts.tokens_per_step; }
  /// Useful FLOPs that are its own: a branch's without its trunk's.
  [[nodiscard]] double work() const {
    return counts.flops_per_token * static_cast<double>((steps - first_step) * counts.tokens_per_step);
  }
};

/// "gmlp-m-1f0a4c2b9d": family, size, and XXH3 of `values`, mode and ranks: a key that the study file does
/// not set does not enter, whatever its default is or becomes.
[[nodiscard]] std::string run_id(const std::string& family, const std::string& model, const Run& run);

/// Checkpoint directory of a step within a run directory: "checkpoints/step-000100".
[[nodiscard]] std::string checkpoint_name(std::int64_t step);

}  // namespace sluice::study
