#pragma once

#include <filesystem>
#include <vector>

#include "trainer/study/page.h"
#include "trainer/study/run_curves.h"
#include "trainer/study/study_files.h"

namespace sluice::study {

/// A study directory as a page: speed (speed.csv), loss (points.csv, lr.csv, metrics of the runs) with its
/// fits, and provenance. Throws as read_study() does, and train::InputError for curves beside a study without
/// losses.
[[nodiscard]] Page study_page(const std::filesystem::path& study, const std::vector<Overlay>& overlays);

/// "Loss study of Sluice · 24 runs · 22 done, 1 failed, 1 waiting".
[[nodiscard]] std::string study_subtitle(const StudyFiles& study);

}  // namespace sluice::study
