#pragma once

#include <filesystem>
#include <vector>

#include "trainer/study/page.h"
#include "trainer/study/run_curves.h"

namespace sluice::study {

/// Two runs, or two studies, side by side. Runs: the first step at which their losses part and by how much,
/// the difference over steps, curves, final numbers, settings. Studies: cell by cell (runs of one id, cells
/// of one shape), losses with the first parting step of each, or tokens/s with their ratio. Throws
/// train::InputError for a run beside a study, or a directory that is neither.
[[nodiscard]] Page compare_page(const std::filesystem::path& first, const std::filesystem::path& second,
                                const std::vector<Overlay>& overlays);

}  // namespace sluice::study
