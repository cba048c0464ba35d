#include "trainer/train/buckets.h"

#include <algorithm>
#include <string>

#include "parallel/link_model.h"
#include "trainer/model/parameters.h"

namespace sluice::train {
namespace {

constexpr std::int64_t kMaster = 4;  // bytes of a gradient's element; fp64 is for tests
constexpr double kCpuMegabytes = 4;

std::int64_t elements_of(double megabytes) {
  return std::max<std::int64_t>(1, static_cast<std::int64_t>(megabytes * 1e6 / static_cast<double>(kMaster)));
}

std::int64_t measured_elements(const RunOptions& options, std::int64_t vocabulary_size, DeviceGroup& group) {
  const parallel::LinkModel link = parallel::measure_link(group.exchange(), group.device());
  const std::int64_t all = model::parameter_count(model::parameter_specs(options.model, vocabulary_size));
  return parallel::choose_bucket_elements(link, all, options.train.reduce_dtype == "bf16" ? 2 : kMaster);
}

}  // namespace

std::optional<std::int64_t> kept_choice(const std::string& name,
                                        const std::optional<CheckpointInfo>& resumed_from,
                                        const DeviceGroup& group, parallel::Communicator& world) {
  constexpr std::int64_t kNone = -1;
  std::int64_t kept = kNone;
  if (resumed_from && resumed_from->device == group.name() && resumed_from->world_size == world.size()) {
    const auto found = resumed_from->choices.find(name);
    if (found != resumed_from->choices.end()) kept = found->second;
  }
  kept = std::stoll(world.broadcast(std::to_string(kept), 0));
  return kept == kNone ? std::nullopt : std::optional(kept);
}

std::optional<std::int64_t> kept_bucket_elements(const std::optional<CheckpointInfo>& resumed_from,
                                                 const DeviceGroup& group, parallel::Communicator& world) {
  return kept_choice(kBucketElements, resumed_from, group, world);
}

parallel::BucketPlan choose_buckets(const RunOptions& options, std::int64_t vocabulary_size,
                                    DeviceGroup& group, std::optional<std::int64_t> kept) {
  const std::int64_t world = group.exchange().size();
  const auto plan = [&](std::int64_t elements) {
    return parallel::BucketPlan{
        .bucket_elements = elements, .world = world, .sequence_ranks = options.parallel.sp};
  };
  if (options.parallel.bucket_mb > 0) return plan(elements_of(options.parallel.bucket_mb));
  if (kept) return plan(*kept);
  if (group.device().is_cpu() || world == 1) return plan(elements_of(kCpuMegabytes));
  return plan(measured_elements(options, vocabulary_size, group));
}

}  // namespace sluice::train
