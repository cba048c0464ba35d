#pragma once

#include <ATen/Context.h>

namespace sluice::kernels {

/// ATen's deterministic algorithms for a scope, for operators that otherwise add up by atomics on a GPU.
/// Memory that ATen allocates stays uninitialised, as ever.
class DeterministicScope {
 public:
  DeterministicScope() {
    at::globalContext().setDeterministicFillUninitializedMemory(false);
    at::globalContext().setDeterministicAlgorithms(true, /*warn_only=*/false);
  }
  ~DeterministicScope() {
    at::globalContext().setDeterministicAlgorithms(algorithms_, warn_only_);
    at::globalContext().setDeterministicFillUninitializedMemory(fill_);
  }
  DeterministicScope(const DeterministicScope&) = delete;
  DeterministicScope& operator=(const DeterministicScope&) = delete;

 private:
  bool algorithms_ = at::globalContext().deterministicAlgorithms();
  bool warn_only_ = at::globalContext().deterministicAlgorithmsWarnOnly();
  bool fill_ = at::globalContext().deterministicFillUninitializedMemory();
};

}  // namespace sluice::kernels
