#pragma once

#include <string>

#include "trainer/train/kernel_benchmark.h"

namespace sluice::cli {

/// What `sluice bench kernels` prints: lines for people, or one JSON object.
[[nodiscard]] std::string kernel_lines(const train::KernelReport& report);
[[nodiscard]] std::string kernel_json(const train::KernelReport& report);

}  // namespace sluice::cli
