#include "trainer/study/plan/link.h"

#include <algorithm>
#include <bit>
#include <stdexcept>

namespace sluice::study::plan {
namespace {

/// An exchange takes messages * hop.latency_s + share * bytes / hop.bytes_per_s.
struct Form {
  double messages = 0;
  double share = 0;
};

Form form_of(Exchange exchange, Algorithm algorithm, std::int64_t ranks) {
  const auto others = static_cast<double>(ranks - 1);
  const double share = others / static_cast<double>(ranks);
  const bool tree = algorithm == Algorithm::kTree && exchange != Exchange::kAllToAll;
  const double depth =
      tree ? static_cast<double>(std::bit_width(static_cast<std::uint64_t>(ranks - 1))) : others;
  if (exchange != Exchange::kAllReduce) return {.messages = depth, .share = share};
  return {.messages = 2 * depth, .share = tree ? 2 : 2 * share};
}

const Hop& hop_for(Exchange exchange, const Link& link) {
  switch (exchange) {
    case Exchange::kAllReduce:
      return link.all_reduce;
    case Exchange::kReduceScatter:
      return link.reduce_scatter;
    case Exchange::kAllGather:
    case Exchange::kAllToAll:
      break;
  }
  return link.all_gather;
}

double on_level(Exchange exchange, const Link& link, std::int64_t ranks, double bytes) {
  if (ranks <= 1) return 0;
  const Form form = form_of(exchange, link.algorithm, ranks);
  const Hop& hop = hop_for(exchange, link);
  return form.messages * hop.latency_s + form.share * bytes / hop.bytes_per_s;
}

/// Neighbours of the node and ranks of other nodes are sent to one after the other.
double all_to_all_of_nodes(const Links& links, const Group& group, double bytes) {
  const auto ranks = static_cast<double>(group.ranks);
  const auto near = static_cast<double>(group.per_node - 1);
  const double far = ranks - 1 - near;
  const Hop& inner = links.node.all_gather;
  const Hop& outer = links.network->all_gather;
  const double within = near > 0 ? near * (inner.latency_s + bytes / ranks / inner.bytes_per_s) : 0;
  return within + far * (outer.latency_s + bytes / ranks / outer.bytes_per_s);
}

}  // namespace

Group whole_group(const Links& links, std::int64_t ranks) {
  return {.ranks = ranks, .per_node = ranks < links.ranks_per_node ? ranks : links.ranks_per_node};
}

double exchange_s(Exchange exchange, const Links& links, const Group& group, double bytes) {
  if (group.ranks <= group.per_node) return on_level(exchange, links.node, group.ranks, bytes);
  if (!links.network) throw std::invalid_argument("exchange_s: ranks of several nodes, and no network");
  if (exchange == Exchange::kAllToAll) return all_to_all_of_nodes(links, group, bytes);
  const std::int64_t nodes = (group.ranks + group.per_node - 1) / group.per_node;
  const double between =
      on_level(exchange, *links.network, nodes, bytes / static_cast<double>(group.per_node));
  if (exchange != Exchange::kAllReduce)
    return on_level(exchange, links.node, group.per_node, bytes) + between;
  return on_level(Exchange::kReduceScatter, links.node, group.per_node, bytes) + between +
         on_level(Exchange::kAllGather, links.node, group.per_node, bytes);
}

Hop hop_of(Exchange exchange, Algorithm algorithm, std::int64_t ranks, double latency_s, double s_per_byte) {
  const Form form = form_of(exchange, algorithm, ranks);
  constexpr double kFastest = 1e18;  // a rate is a finite number, in files too
  return {.latency_s = latency_s / form.messages,
          .bytes_per_s = s_per_byte > 0 ? std::min(kFastest, form.share / s_per_byte) : kFastest};
}

}  // namespace sluice::study::plan
