#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "parallel/communicator.h"

namespace sluice::train {

/// Of this machine, as gethostname() has it.
[[nodiscard]] std::string host_name();

/// A machine of the job, and its ranks in rising order: the first one has local rank 0, and so on.
struct NodeRanks {
  std::string host;
  std::vector<std::int64_t> ranks;
};

/// The machines by their first rank, told apart by name. Collective.
[[nodiscard]] std::vector<NodeRanks> ranks_by_node(parallel::Communicator& world);

/// "3 ranks on 2 nodes (node-a ranks 0-1, node-b rank 2)"; the nodes' names only up to eight, else how many
/// ranks are on each.
[[nodiscard]] std::string describe_nodes(const std::vector<NodeRanks>& nodes);

}  // namespace sluice::train
