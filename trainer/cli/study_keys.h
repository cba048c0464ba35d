#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "trainer/study/experiment/spec.h"

// The keys of a study file that are no settings of a run.

namespace sluice::cli::study_keys {

/// Applies a value; returns the fault, "" where there is none.
using Setter = std::function<std::string(study::StudySpec&, const std::string&)>;
/// study.*, budgets.*, tune.* and speed.*
[[nodiscard]] const std::map<std::string, Setter>& keys();

/// seeds and tokens of [size.NAME]; the fault.
[[nodiscard]] std::string set_of_size(study::Size& size, const std::string& key, const std::string& value);

/// "a, b", "1..4", or with ; where values hold commas. Spaces around values are no part of them.
[[nodiscard]] std::vector<std::string> values_of(const std::string& text);

/// Defaults that depend on other keys, then what is wrong between them. `given`: lines by key.
void finish(study::StudySpec& spec, const std::map<std::string, std::int64_t>& given,
            std::vector<std::string>& faults);

}  // namespace sluice::cli::study_keys
