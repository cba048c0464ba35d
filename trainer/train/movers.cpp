#include "trainer/train/movers.h"

#include <fmt/format.h>

#include <algorithm>
#include <exception>
#include <vector>

#include "parallel/link_model.h"
#include "trainer/model/flops.h"
#include "trainer/model/parameters.h"
#include "trainer/train/peaks.h"

namespace sluice::train {
namespace {

using parallel::Movers;

constexpr double kMaster = 4;  // bytes of a gradient's element

/// Between what was measured (tests/bench/README.md, two H200): at 0.17 and 0.19 steps were 0.6 to 1.5 %
/// shorter through the host's memory than over the links, from 0.33 on as long or longer.
constexpr double kMostOfBackward = 0.25;
constexpr double kBackwardOfStep = 2.0 / 3;
/// What a backward reaches of the peak, about (README).
constexpr double kShareOfPeak = 0.6;
/// No host's bus is faster for each of two ranks (PCIe 5.0 of 16 lanes): what is not light with it need not
/// be measured.
constexpr double kLeastSecondsPerByte = 0.5 / 64e9;

Movers without_measurement(const ParallelOptions& options) {
  if (options.exchange == "copy_engines") return Movers::kCopyEngines;
  if (options.exchange == "host_memory" && options.sp == 1) return Movers::kHostMemory;
  const bool divides = options.zero == 1 && options.sp == 1;
  return options.exchange != "kernels" && divides ? Movers::kPeerMemory : Movers::kNcclKernels;
}

/// Whether auto has a choice. Two ranks: of more the host's memory has not been measured beside the links.
bool may_choose(const RunOptions& options, const DeviceGroup& group) {
  const parallel::Communicator& world = group.world();
  return options.parallel.exchange == "auto" && options.parallel.zero == 1 && options.parallel.sp == 1 &&
         options.train.reduce_dtype == "fp32" && group.device().is_cuda() && world.size() == 2 &&
         world.place().local_size == world.size();
}

/// The reason against it, alike on all ranks: a container may have no room in /dev/shm, or no locked memory.
std::string connect_through_host(DeviceGroup& group) {
  try {
    group.connect(Movers::kHostMemory);
    return "";
  } catch (const std::exception& error) {
    return error.what();
  }
}

double measured_s_per_byte(DeviceGroup& group) {
  constexpr std::int64_t kBytes = std::int64_t{64} << 20;
  constexpr std::int64_t kBatches = 3;
  std::vector<double> seconds = parallel::time_collective(group.exchange(), group.device(),
                                                          parallel::Collective::kAllToAll, kBytes, kBatches);
  std::ranges::sort(seconds);
  const double own = seconds[kBatches / 2] / static_cast<double>(kBytes);
  return std::stod(group.world().broadcast(fmt::format("{}", own), 0));
}

}  // namespace

bool HostMemoryLoad::is_light() const { return exchange_s <= kMostOfBackward * backward_s; }

HostMemoryLoad host_memory_load(const RunOptions& options, std::int64_t vocabulary_size, double s_per_byte,
                                double peak_flops) {
  const auto parameters =
      static_cast<double>(model::parameter_count(model::parameter_specs(options.model, vocabulary_size)));
  const double tokens = static_cast<double>(options.train.micro_batch * options.model.seq_len);
  const double flops = tokens * model::count_flops(options.model, vocabulary_size).useful_per_token;
  return {.exchange_s = kMaster * parameters * s_per_byte,
          .backward_s = kBackwardOfStep * flops / (kShareOfPeak * peak_flops)};
}

std::string connect_ranks(DeviceGroup& group, const RunOptions& options, std::int64_t vocabulary_size,
                          std::optional<Movers> kept) {
  const bool chooses = may_choose(options, group);
  if (!chooses || kept) {
    group.connect(chooses ? *kept : without_measurement(options.parallel));
    return "";
  }
  const double peak = find_peaks(group.device(), options.train.precision, group.world()).measured.value_or(0);
  HostMemoryLoad load = host_memory_load(options, vocabulary_size, kLeastSecondsPerByte, peak);
  if (load.is_light()) {
    if (const std::string fault = connect_through_host(group); !fault.empty()) {
      group.connect(Movers::kPeerMemory);
      return "parallel.exchange = auto is peer_memory, since host_memory failed: " + fault;
    }
    load = host_memory_load(options, vocabulary_size, measured_s_per_byte(group), peak);
  }
  if (!load.is_light()) group.connect(Movers::kPeerMemory);
  return fmt::format(
      "parallel.exchange = auto is {}: all gradients take the host's bus {:.1f} ms, beside some {:.1f} ms of "
      "backward",
      load.is_light() ? "host_memory" : "peer_memory", 1e3 * load.exchange_s, 1e3 * load.backward_s);
}

std::string moved_by(const parallel::Communicator& ranks) {
  if (ranks.size() == 1) return "";
  if (ranks.has_host_memory()) return "copy engines, through the host's memory";
  if (ranks.has_peer_memory()) return "copy engines, into peer memory";
  if (ranks.has_copy_engines()) return "copy engines of NCCL";
  return ranks.name() == "nccl" ? "kernels of NCCL" : ranks.name();
}

}  // namespace sluice::train
