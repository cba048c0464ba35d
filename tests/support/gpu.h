#pragma once

#include <gtest/gtest.h>

#include <cstdlib>
#include <string>

#include "parallel/device.h"

namespace sluice::tests {

/// Why no test can run on a GPU here; empty where one can.
inline std::string why_no_gpu() {
  const auto report = parallel::report_devices();
  if (!report.built_with_cuda) return "this build has no CUDA sources";
  return report.gpus.empty() ? "this machine has no visible GPU" : "";
}

/// SLUICE_REQUIRE_GPU=1: a test that cannot run on a GPU is a failure, not a skip.
inline bool gpu_required() {
  const char* value = std::getenv("SLUICE_REQUIRE_GPU");
  return value != nullptr && std::string(value) == "1";
}

}  // namespace sluice::tests

/// First line of a GPU test's body.
#define SLUICE_NEEDS_GPU()                                                               \
  if (const std::string reason = sluice::tests::why_no_gpu(); !reason.empty()) {         \
    if (sluice::tests::gpu_required()) FAIL() << "SLUICE_REQUIRE_GPU=1, but " << reason; \
    GTEST_SKIP() << reason;                                                              \
  }                                                                                      \
  static_assert(true, "takes the semicolon")
