#pragma once

#include <functional>
#include <string>
#include <vector>

#include "parallel/communicator.h"

namespace sluice::tests {

/// One promise of parallel::Communicator, checked on the calling rank with EXPECT_*.
struct ConformanceCase {
  std::string name;
  void (*run)(parallel::Communicator&);
};

/// What every communicator has to fulfil at every size.
const std::vector<ConformanceCase>& conformance_cases();
/// Those of them that are about tensors cut into chunks.
const std::vector<ConformanceCase>& chunk_conformance_cases();
/// Those about messages between two ranks and groups within groups.
const std::vector<ConformanceCase>& part_conformance_cases();

}  // namespace sluice::tests
