#include "trainer/train/nodes.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <array>

namespace sluice::train {
namespace {

constexpr std::size_t kMostNames = 8;

/// "ranks 0-2,5" of rising numbers.
std::string rank_list(const std::vector<std::int64_t>& ranks) {
  std::string text = ranks.size() == 1 ? "rank " : "ranks ";
  for (std::size_t first = 0; first < ranks.size();) {
    std::size_t last = first;
    while (last + 1 < ranks.size() && ranks[last + 1] == ranks[last] + 1) ++last;
    text += fmt::format("{}{}", first == 0 ? "" : ",", ranks[first]);
    if (last > first) text += fmt::format("-{}", ranks[last]);
    first = last + 1;
  }
  return text;
}

std::string plural(std::size_t count, const char* noun) {
  return fmt::format("{} {}{}", count, noun, count == 1 ? "" : "s");
}

}  // namespace

std::string host_name() {
  std::array<char, 256> name{};
  gethostname(name.data(), name.size() - 1);
  return name.data();
}

std::vector<NodeRanks> ranks_by_node(parallel::Communicator& world) {
  std::vector<NodeRanks> nodes;
  const std::vector<std::string> hosts = world.all_gather(host_name());
  for (std::size_t rank = 0; rank < hosts.size(); ++rank) {
    auto node = std::ranges::find(nodes, hosts[rank], &NodeRanks::host);
    if (node == nodes.end()) node = nodes.insert(nodes.end(), NodeRanks{.host = hosts[rank], .ranks = {}});
    node->ranks.push_back(static_cast<std::int64_t>(rank));
  }
  return nodes;
}

std::string describe_nodes(const std::vector<NodeRanks>& nodes) {
  std::size_t ranks = 0, fewest = 0, most = 0;
  for (const NodeRanks& node : nodes) {
    ranks += node.ranks.size();
    most = std::max(most, node.ranks.size());
    fewest = fewest == 0 ? node.ranks.size() : std::min(fewest, node.ranks.size());
  }
  const std::string text = plural(ranks, "rank") + " on " + plural(nodes.size(), "node");
  if (nodes.size() > kMostNames)
    return text + (fewest == most ? fmt::format(", {} on each", most)
                                  : fmt::format(", {} to {} on each", fewest, most));
  std::string names;
  for (const NodeRanks& node : nodes)
    names += fmt::format("{}{} {}", names.empty() ? "" : ", ", node.host, rank_list(node.ranks));
  return fmt::format("{} ({})", text, names);
}

}  // namespace sluice::train
