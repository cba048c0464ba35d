#pragma once

#include <optional>
#include <string>
#include <vector>

#include "trainer/study/experiment/expand.h"
#include "trainer/study/experiment/run_state.h"

namespace sluice::study {

inline constexpr int kStudyVersion = 1;

/// What `sluice plan` says of a speed study's cell.
struct Predicted {
  double step_s = 0;
  double memory_bytes = 0;  ///< of one rank
};

/// A run and what has become of it.
struct StudyRun {
  Run run{};
  RunState state{};
  std::string directory{};
  std::optional<Predicted> predicted{};  ///< by collect() alone
};

/// study.json (docs/studies.md): the study, its runs as known by now, and their states.
[[nodiscard]] std::string study_json(const StudySpec& spec, const std::vector<StudyRun>& runs,
                                     std::int64_t undecided, const std::string& version);

}  // namespace sluice::study
