#pragma once

#include <cstdint>
#include <optional>

// How long ranks exchange, from a latency and a rate of each level of links (the alpha-beta model of Hockney,
// as Thakur et al. 2005, "Optimization of Collective Communication Operations in MPICH", apply it to
// collectives).
namespace sluice::study::plan {

/// A message of b bytes takes latency_s + b / bytes_per_s.
struct Hop {
  double latency_s = 0;
  double bytes_per_s = 0;  ///< of one rank, while all its neighbours send too
};

enum class Algorithm { kRing, kTree };

/// Links of one level. Each collective has a hop of its own, since libraries reach other rates for each.
struct Link {
  Algorithm algorithm = Algorithm::kRing;
  Hop all_reduce;
  Hop reduce_scatter;
  Hop all_gather;  ///< all-to-alls too
};

struct Links {
  std::int64_t ranks_per_node = 1;
  Link node;                    ///< within a node: NVLink, shared memory
  std::optional<Link> network;  ///< between nodes; none: there is one node
};

/// Ranks that exchange, `per_node` of them on each node.
struct Group {
  std::int64_t ranks = 1;
  std::int64_t per_node = 1;
};
/// All of `ranks` ranks, nodes filled one after another.
[[nodiscard]] Group whole_group(const Links& links, std::int64_t ranks);

enum class Exchange { kAllReduce, kReduceScatter, kAllGather, kAllToAll };

/// Seconds of one exchange of a tensor of `bytes` (all chunks together). n ranks on one level take, of hop
/// (a, B):
///   ring  all-reduce 2 (n - 1) a + 2 (n - 1) / n bytes / B; reduce-scatter, all-gather half of it
///   tree  all-reduce 2 ceil(log2 n) a + 2 bytes / B (up and down a binary tree, pipelined; Sanders et al.
///         2009); reduce-scatter, all-gather ceil(log2 n) a + (n - 1) / n bytes / B (halving and doubling)
///   all-to-all, either way: (n - 1) a + (n - 1) / n bytes / B
/// On two levels of m ranks on each of k nodes an all-reduce is a reduce-scatter within the node, an
/// all-reduce of bytes / m between nodes, and an all-gather within the node; the other two likewise. 0 for
/// one rank. A group of several nodes needs links.network: else std::invalid_argument.
[[nodiscard]] double exchange_s(Exchange exchange, const Links& links, const Group& group, double bytes);

/// The hop that makes an exchange of n ranks take latency_s + bytes * s_per_byte: the inverse of a level's
/// formula, for what was measured. n >= 2.
[[nodiscard]] Hop hop_of(Exchange exchange, Algorithm algorithm, std::int64_t ranks, double latency_s,
                         double s_per_byte);

}  // namespace sluice::study::plan
