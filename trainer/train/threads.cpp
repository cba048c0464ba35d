#include "trainer/train/threads.h"

#include <ATen/Parallel.h>
#include <sched.h>

#include <algorithm>
#include <bitset>
#include <string>
#include <vector>

#include "trainer/train/nodes.h"

namespace sluice::train {

namespace {

using CoreMask = std::bitset<CPU_SETSIZE>;

CoreMask own_cores() {
  CoreMask cores;
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof set, &set) != 0) return cores;
  for (std::size_t core = 0; core < cores.size(); ++core) cores[core] = CPU_ISSET(core, &set) != 0;
  return cores;
}

}  // namespace

std::int64_t fair_threads(parallel::Communicator& communicator) {
  const CoreMask own = own_cores();
  const std::string host = host_name();
  std::vector<CoreMask> neighbours;
  for (const std::string& other : communicator.all_gather(own.to_string() + host)) {
    if (other.substr(own.size()) == host) neighbours.emplace_back(other, 0, own.size());
  }
  double share = 0;
  for (std::size_t core = 0; core < own.size(); ++core) {
    if (!own[core]) continue;
    share += 1.0 / static_cast<double>(
                       std::ranges::count_if(neighbours, [&](const CoreMask& mask) { return mask[core]; }));
  }
  constexpr double kRounding = 1e-9;  // thirds of three cores are one core
  return std::max<std::int64_t>(1, static_cast<std::int64_t>(share + kRounding));
}

std::int64_t set_compute_threads(std::int64_t requested, parallel::Communicator& communicator) {
  const std::int64_t fair = fair_threads(communicator);  // collective, so asked for in any case
  const std::int64_t threads = requested > 0 ? requested : fair;
  at::set_num_threads(static_cast<int>(threads));
  return threads;
}

}  // namespace sluice::train
