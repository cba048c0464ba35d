#pragma once

#include <string>

#include "trainer/study/experiment/spec.h"

namespace sluice::cli {

/// A study file (docs/studies.md). Settings files that it names are read, too, and count as part of it.
/// Throws train::InputError with all faults at once, each with its line: unknown sections and keys with the
/// nearest known one, bad values, keys that the study sets itself.
[[nodiscard]] study::StudySpec parse_study(const std::string& text, const std::string& file_name);

}  // namespace sluice::cli
