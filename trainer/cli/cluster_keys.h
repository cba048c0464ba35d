#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "trainer/study/plan/cluster.h"

namespace sluice::cli {

/// Whether a cluster file must have a key.
enum class Need { kAlways, kWithNode, kWithNetwork, kNever };

/// One key of a cluster file: the only place that knows its name, member, range and meaning.
struct ClusterKey {
  std::string name;  ///< "link.node.latency_s"
  std::string range;
  std::string help;
  Need need = Need::kNever;
  /// Parses and checks; returns the fault ("" when there is none).
  std::function<std::string(study::plan::Cluster&, const std::string& text)> set;
  /// None: the cluster does not have it.
  std::function<std::optional<std::string>(const study::plan::Cluster&)> get;
};

[[nodiscard]] const std::vector<ClusterKey>& cluster_keys();

/// Reduce-scatters and all-gathers of a level whose keys were not among those `given` are as its all-reduces.
void complete_links(study::plan::Cluster& cluster, const std::vector<std::string>& given);

}  // namespace sluice::cli
