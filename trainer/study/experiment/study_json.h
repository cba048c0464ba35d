#pragma once

#include <string>
#include <vector>

#include "trainer/study/experiment/expand.h"
#include "trainer/study/experiment/run_state.h"

namespace sluice::study {

inline constexpr int kStudyVersion = 1;

/// A run and what has become of it.
struct StudyRun {
  Run run{};
  RunState state{};
  std::string directory{};
};

/// study.json (docs/formats.md): the study, its runs as known by now, and their states.
[[nodiscard]] std::string study_json(const StudySpec& spec, const std::vector<StudyRun>& runs,
                                     std::int64_t undecided, const std::string& version);

}  // namespace sluice::study
