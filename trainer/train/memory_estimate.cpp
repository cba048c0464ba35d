#include "trainer/train/memory_estimate.h"

#include <vector>

#include "trainer/model/activations.h"
#include "trainer/model/parameters.h"

namespace sluice::train {

MemoryEstimate estimate_memory(const model::ModelOptions& options, std::int64_t vocabulary_size,
                               const MemoryPlan& plan) {
  std::vector<parallel::TensorSpec> tensors;
  for (const auto& spec : model::parameter_specs(options, vocabulary_size))
    tensors.push_back({spec.name, spec.shape});
  const parallel::ArenaLayout layout(tensors, plan.buckets);
  const auto master = static_cast<std::int64_t>(c10::elementSize(plan.placement.master));
  const auto compute = static_cast<std::int64_t>(c10::elementSize(plan.placement.compute));
  constexpr std::int64_t kRank = 0;
  std::int64_t owned = layout.size();
  if (plan.sharding == Sharding::kState) {
    owned = 0;
    for (const parallel::Range& range : layout.owned(kRank)) owned += range.numel();
  }
  const bool rounds = plan.placement.compute != plan.placement.master;
  const bool slices_alone = parameter_owner(plan.sharding, plan.placement, kRank).has_value();
  const auto activations = model::count_activations(options, vocabulary_size,
                                                    {.batch = plan.batch,
                                                     .on_gpu = plan.placement.device.is_cuda(),
                                                     .compute = plan.placement.compute,
                                                     .recompute = plan.recompute,
                                                     .residual = plan.placement.residual});
  return {
      .parameters = (slices_alone ? owned : layout.size()) * master + (rounds ? layout.size() * compute : 0),
      .gradients = layout.size() * master,
      .optimizer = 2 * owned * master,
      .kept = activations.kept,
      .passing = activations.passing};
}

}  // namespace sluice::train
