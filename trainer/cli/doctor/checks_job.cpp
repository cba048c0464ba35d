#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "trainer/cli/doctor/checks.h"
#include "trainer/cli/doctor/grouped.h"
#include "trainer/train/quantile.h"

// How the ranks compare with each other.
namespace sluice::cli::doctor {
namespace {

constexpr double kSlowExchange = 3.0, kSlowProducts = 0.8;

/// Of two the larger one: the slower of two rates is then named.
template <typename Value>
double median(const std::vector<RankProbe>& ranks, Value value) {
  std::vector<double> values;
  for (const RankProbe& rank : ranks) values.push_back(-value(rank));
  return -train::quantile(values, 0.5);
}

}  // namespace

Findings judge_clocks(const std::vector<RankProbe>& ranks) {
  Grouped found;
  double most = 0;
  for (const RankProbe& rank : ranks) {
    const double off = std::abs(rank.clock_ahead_s);
    most = std::max(most, off);
    if (off <= 1) continue;
    found.add({.severity = off > 60 ? Severity::kFault : Severity::kWarning,
               .what = "clocks",
               .value = fmt::format("{:.1f} s {} rank 0's clock", off,
                                    rank.clock_ahead_s > 0 ? "ahead of" : "behind"),
               .fix = "chronyc tracking (or timedatectl) there: the clocks are not synchronised"},
              rank.host);
  }
  return found.or_good({.what = "clocks", .value = fmt::format("within {:.3f} s", most)});
}

Findings judge_exchange(const std::vector<RankProbe>& ranks) {
  Grouped found;
  const double sending = median(ranks, [](const RankProbe& rank) { return rank.sending_s; });
  const double receiving = median(ranks, [](const RankProbe& rank) { return rank.receiving_s; });
  for (const RankProbe& rank : ranks) {
    if (!rank.sum_right)
      found.add({.severity = Severity::kFault,
                 .what = "exchange",
                 .value = "an all-reduce gave a wrong sum",
                 .fix = "sluice bench allreduce there; with GPUs NCCL_DEBUG=WARN, NCCL_P2P_DISABLE=1 to tell "
                        "links apart"},
                name_of(rank));
    const auto slow = [&](double seconds, double usual, const char* direction) {
      if (ranks.size() < 3 || seconds <= kSlowExchange * usual) return;
      found.add({.severity = Severity::kWarning,
                 .what = "exchange",
                 .value = fmt::format("a broadcast {} it takes {:.2f} ms, {:.1f} times the median rank's",
                                      direction, 1e3 * seconds, seconds / usual),
                 .fix = "look at that host's load and network interface (OMPI_MCA_btl_tcp_if_include, "
                        "NCCL_SOCKET_IFNAME choose one)"},
                name_of(rank));
    };
    slow(rank.sending_s, sending, "from");
    slow(rank.receiving_s, receiving, "to");
  }
  if (ranks.size() < 2) return {{.what = "exchange", .value = "one rank exchanges nothing"}};
  return found.or_good(
      {.what = "exchange",
       .value = fmt::format("sums are right; a broadcast of 1 MiB takes {:.2f} ms", 1e3 * receiving)});
}

Findings judge_products(const std::vector<RankProbe>& ranks) {
  Grouped found;
  const double usual = median(ranks, [](const RankProbe& rank) { return rank.products_flops; });
  for (const RankProbe& rank : ranks) {
    if (rank.products_flops >= kSlowProducts * usual) continue;
    found.add({.severity = Severity::kWarning,
               .what = "products",
               .value = fmt::format("{:.3f} TFLOP/s, {:.2f} of the median rank's",
                                    1e-12 * rank.products_flops, rank.products_flops / usual),
               .fix = "look for other processes there (top, nvidia-smi), power limits and temperature"},
              name_of(rank));
  }
  return found.or_good(
      {.what = "products", .value = fmt::format("{:.3f} TFLOP/s, the median rank", 1e-12 * usual)});
}

}  // namespace sluice::cli::doctor
