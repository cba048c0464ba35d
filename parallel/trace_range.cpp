#include "parallel/trace_range.h"

#include <ATen/record_function.h>

#include <string>

#include "parallel/gpu_tools.h"

namespace sluice::parallel {

struct TraceRange::Recorded {
  explicit Recorded(const char* name) {
    if (function.isActive()) function.before(std::string(name));
  }
  at::RecordFunction function{at::RecordScope::USER_SCOPE};
};

TraceRange::TraceRange(const char* name) {
  push_nvtx_range(name);
  if (at::hasCallbacks()) recorded_ = std::make_unique<Recorded>(name);
}

TraceRange::~TraceRange() {
  recorded_.reset();
  pop_nvtx_range();
}

}  // namespace sluice::parallel
