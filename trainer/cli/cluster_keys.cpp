#include "trainer/cli/cluster_keys.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <sstream>
#include <utility>

#include "trainer/cli/number.h"
#include "trainer/cli/option_rows.h"

namespace sluice::cli {
namespace {

using study::plan::Algorithm;
using study::plan::Cluster;
using study::plan::Device;
using study::plan::Hop;
using study::plan::Link;
using study::plan::Prices;

struct About {
  std::string help;
  Bounds bounds = rows::kNotNegative;
  Need need = Need::kNever;
};

/// A key that neither sets nor gets anything yet.
ClusterKey named(std::string name, std::string range, const About& about) {
  return {.name = std::move(name),
          .range = std::move(range),
          .help = about.help,
          .need = about.need,
          .set = {},
          .get = {}};
}

/// A number whose place `find` knows; null where the cluster has none.
template <class Find>
ClusterKey number(std::string name, Find find, About about) {
  ClusterKey key = named(std::move(name), describe(about.bounds), about);
  key.set = [find, bounds = about.bounds](Cluster& cluster, const std::string& text) -> std::string {
    const auto value = parse_number(text);
    if (!value || !bounds.contains(*value)) return "must be a number " + describe(bounds);
    *find(cluster) = *value;
    return "";
  };
  key.get = [find](const Cluster& cluster) -> std::optional<std::string> {
    Cluster copy = cluster;
    const double* const value = find(copy);
    if (value == nullptr) return std::nullopt;
    return format_number(*value);
  };
  return key;
}

ClusterKey of_gpu(const std::string& name, double Device::*field, About about) {
  return number(
      "gpu." + name, [field](Cluster& cluster) { return &(cluster.gpu.*field); }, std::move(about));
}

ClusterKey of_cost(const std::string& name, double Prices::*field, About about) {
  return number(
      "cost." + name, [field](Cluster& cluster) { return &(cluster.cost.*field); }, std::move(about));
}

template <class Field>
ClusterKey integer(std::string name, Field field, About about) {
  ClusterKey key = named(std::move(name), describe(about.bounds), about);
  key.set = [field, bounds = about.bounds](Cluster& cluster, const std::string& text) -> std::string {
    const auto value = parse_integer(text);
    if (!value || !bounds.contains(static_cast<double>(*value)))
      return "must be a whole number, " + describe(bounds);
    field(cluster) = *value;
    return "";
  };
  key.get = [field](const Cluster& cluster) {
    Cluster copy = cluster;
    return std::optional(std::to_string(field(copy)));
  };
  return key;
}

template <class Field>
ClusterKey word(std::string name, Field field, const std::vector<std::string>& choices, About about) {
  ClusterKey key =
      named(std::move(name), choices.empty() ? "text" : fmt::format("{}", fmt::join(choices, ", ")), about);
  key.set = [field, choices](Cluster& cluster, const std::string& text) -> std::string {
    const auto fault = choices.empty() ? rows::text_fault(text) : rows::choice_fault(choices, text);
    if (fault.empty()) field(cluster) = text;
    return fault;
  };
  key.get = [field](const Cluster& cluster) -> std::optional<std::string> {
    Cluster copy = cluster;
    if (field(copy).empty()) return std::nullopt;
    return field(copy);
  };
  return key;
}

/// The level's link; made where `cluster` is being read, and null where it has none.
Link* node_of(Cluster& cluster) { return &cluster.links.node; }
Link* network_of(Cluster& cluster) { return cluster.links.network ? &*cluster.links.network : nullptr; }

/// Keys of one level.
void add_link(std::vector<ClusterKey>& keys, const std::string& section, Link* (*find)(Cluster&), Need need) {
  const auto add = [&](const std::string& name, Hop Link::*hop, double Hop::*field, About about) {
    ClusterKey key = number(
        section + name,
        [find, hop, field](Cluster& cluster) -> double* {
          Link* const link = find(cluster);
          return link == nullptr ? nullptr : &(link->*hop.*field);
        },
        std::move(about));
    key.set = [set = key.set, find](Cluster& cluster, const std::string& text) {
      if (find(cluster) == nullptr) cluster.links.network.emplace();
      return set(cluster, text);
    };
    key.get = [get = key.get, find, hop](const Cluster& cluster) -> std::optional<std::string> {
      Cluster copy = cluster;
      const Link* const link = find(copy);
      if (link == nullptr || (link->*hop).bytes_per_s == 0) return std::nullopt;  // not measured
      return get(cluster);
    };
    keys.push_back(std::move(key));
  };
  ClusterKey algorithm = named(section + "algorithm", "ring, tree", {"how collectives run on this level"});
  algorithm.set = [find](Cluster& cluster, const std::string& text) {
    if (find(cluster) == nullptr) cluster.links.network.emplace();
    find(cluster)->algorithm = text == "tree" ? Algorithm::kTree : Algorithm::kRing;
    return rows::choice_fault({"ring", "tree"}, text);
  };
  algorithm.get = [find](const Cluster& cluster) -> std::optional<std::string> {
    Cluster copy = cluster;
    const Link* const link = find(copy);
    if (link == nullptr) return std::nullopt;
    return link->algorithm == Algorithm::kTree ? "tree" : "ring";
  };
  keys.push_back(std::move(algorithm));
  add("latency_s", &Link::all_reduce, &Hop::latency_s,
      {"of a message of an all-reduce", rows::kNotNegative, need});
  add("bytes_per_s", &Link::all_reduce, &Hop::bytes_per_s,
      {"of one rank in an all-reduce, bus bandwidth", rows::kPositive, need});
  const About other{"of a reduce-scatter; without it as an all-reduce", rows::kNotNegative};
  const About other_rate{other.help, rows::kPositive};
  add("reduce_scatter_latency_s", &Link::reduce_scatter, &Hop::latency_s, other);
  add("reduce_scatter_bytes_per_s", &Link::reduce_scatter, &Hop::bytes_per_s, other_rate);
  const About gather{"of an all-gather and an all-to-all; without it as an all-reduce", rows::kNotNegative};
  add("all_gather_latency_s", &Link::all_gather, &Hop::latency_s, gather);
  add("all_gather_bytes_per_s", &Link::all_gather, &Hop::bytes_per_s, {gather.help, rows::kPositive});
}

ClusterKey spread_key() {
  const std::string allowed = "positive numbers with commas between them";
  ClusterKey key = named("gpu.spread", allowed,
                         {"forward and backward of steps and ranks over their rank's median, ascending"});
  key.set = [allowed](Cluster& cluster, const std::string& text) -> std::string {
    cluster.gpu.spread.clear();
    std::istringstream parts(text);
    for (std::string part; std::getline(parts, part, ',');) {
      const auto first = part.find_first_not_of(' ');
      const auto value = parse_number(first == std::string::npos ? part : part.substr(first));
      if (!value || *value <= 0) return fmt::format("must be {}", allowed);
      cluster.gpu.spread.push_back(*value);
    }
    return "";
  };
  key.get = [](const Cluster& cluster) -> std::optional<std::string> {
    if (cluster.gpu.spread.empty()) return std::nullopt;
    std::string text;
    for (const double value : cluster.gpu.spread) text += (text.empty() ? "" : ",") + format_number(value);
    return text;
  };
  return key;
}

void add_gpu(std::vector<ClusterKey>& keys) {
  using rows::kNotNegative;
  using rows::kPositive;
  constexpr Bounds kAtLeastOne{1, rows::kInfinite, Edge::kIncluded, Edge::kIncluded};
  keys.push_back(
      word("gpu.name", [](Cluster& c) -> std::string& { return c.gpu.name; }, {}, {"the device's name"}));
  keys.push_back(word("gpu.kind", [](Cluster& c) -> std::string& { return c.gpu.kind; }, {"cpu", "cuda"},
                      {"what a rank computes on", {}, Need::kAlways}));
  keys.push_back(word("gpu.precision", [](Cluster& c) -> std::string& { return c.gpu.precision; },
                      {"fp32", "tf32", "bf16", "fp64"}, {"that all rates hold for", {}, Need::kAlways}));
  const auto add = [&](const char* name, double Device::*field, About about) {
    keys.push_back(of_gpu(name, field, std::move(about)));
  };
  add("memory_bytes", &Device::memory_bytes, {"that one rank may take", kPositive, Need::kAlways});
  add("memory_overhead_bytes", &Device::memory_overhead_bytes,
      {"that a rank takes beside what is counted", kNotNegative});
  add("gemm_flops_per_s", &Device::gemm_flops_per_s,
      {"a product takes its FLOPs over this", kPositive, Need::kAlways});
  add("gemm_bytes_per_s", &Device::gemm_bytes_per_s,
      {"and the bytes of its three matrices over this", kPositive, Need::kAlways});
  add("copy_bytes_per_s", &Device::copy_bytes_per_s,
      {"read and written by a large copy", kPositive, Need::kAlways});
  add("update_bytes_per_s", &Device::update_bytes_per_s,
      {"of norm, clip and AdamW", kPositive, Need::kAlways});
  add("forward_pass_factor", &Device::forward_pass_factor,
      {"time of forward's elementwise passes over that of a copy", kNotNegative});
  add("backward_pass_factor", &Device::backward_pass_factor, {"the same of backward", kNotNegative});
  add("forward_layer_s", &Device::forward_layer_s, {"of each layer, whatever its size", kNotNegative});
  add("backward_layer_s", &Device::backward_layer_s, {"the same of backward", kNotNegative});
  add("step_overhead_s", &Device::step_overhead_s, {"of a step, of no other cause", kNotNegative});
  add("overlap_slowdown", &Device::overlap_slowdown,
      {"backward takes so many times as long while gradients are reduced", kAtLeastOne});
  add("peak_flops_per_s", &Device::peak_flops_per_s, {"what MFU divides by; 0: not known", kNotNegative});
  add("power_w", &Device::power_w, {"of a device that trains; 0: not known", kNotNegative});
  keys.push_back(spread_key());
}

std::vector<ClusterKey> make_keys() {
  std::vector<ClusterKey> keys;
  constexpr Bounds kCount{1, 1e7};
  keys.push_back(integer("measured.ranks", [](Cluster& c) -> std::int64_t& { return c.measured_ranks; },
                         {"measured together; what is said of more is extrapolated", kCount}));
  add_gpu(keys);
  keys.push_back(integer("link.node.ranks",
                         [](Cluster& c) -> std::int64_t& { return c.links.ranks_per_node; },
                         {"of one node", kCount, Need::kAlways}));
  add_link(keys, "link.node.", node_of, Need::kWithNode);
  add_link(keys, "link.network.", network_of, Need::kWithNetwork);
  keys.push_back(word("cost.currency", [](Cluster& c) -> std::string& { return c.cost.currency; }, {},
                      {"of the prices"}));
  keys.push_back(of_cost("gpu_hour", &Prices::gpu_hour, {"price of one device for an hour; 0: not known"}));
  keys.push_back(of_cost("kwh", &Prices::kwh, {"price of a kilowatt hour; 0: in the device's price"}));
  keys.push_back(of_cost("pue", &Prices::pue,
                         {"energy of the building over that of its devices",
                          {1, rows::kInfinite, Edge::kIncluded, Edge::kIncluded}}));
  return keys;
}

}  // namespace

const std::vector<ClusterKey>& cluster_keys() {
  static const std::vector<ClusterKey> all = make_keys();
  return all;
}

void complete_links(Cluster& cluster, const std::vector<std::string>& given) {
  const auto complete = [&](Link& link, const std::string& section) {
    const auto one = [&](const std::string& name, Hop Link::*hop, double Hop::*field) {
      if (std::ranges::count(given, section + name) == 0) link.*hop.*field = link.all_reduce.*field;
    };
    one("reduce_scatter_latency_s", &Link::reduce_scatter, &Hop::latency_s);
    one("reduce_scatter_bytes_per_s", &Link::reduce_scatter, &Hop::bytes_per_s);
    one("all_gather_latency_s", &Link::all_gather, &Hop::latency_s);
    one("all_gather_bytes_per_s", &Link::all_gather, &Hop::bytes_per_s);
  };
  complete(cluster.links.node, "link.node.");
  if (cluster.links.network) complete(*cluster.links.network, "link.network.");
}

}  // namespace sluice::cli
