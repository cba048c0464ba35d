#include "trainer/train/memory_estimate.h"

#include <vector>

#include "trainer/model/activations.h"
#include "trainer/model/parameters.h"
#include "trainer/train/sequence_ranks.h"
#include "trainer/train/state_layout.h"

namespace sluice::train {
namespace {

constexpr std::int64_t kRank = 0;

std::optional<model::HeldRows> held_by(const std::optional<SequencePlan>& sequence) {
  if (!sequence || sequence->mode == kernels::ExchangeMode::kAllToAll) return std::nullopt;
  return model::HeldRows{sequence->rows, kRank};
}

std::optional<model::SequenceShare> share_of(const std::optional<SequencePlan>& sequence) {
  if (!sequence) return std::nullopt;
  return model::SequenceShare{
      .ranks = sequence->rows.ranks(), .positions = sequence->rows.most(), .mode = sequence->mode};
}

}  // namespace

std::optional<SequencePlan> sequence_plan(const RunOptions& options) {
  const std::int64_t sp = options.parallel.sp;
  if (sp == 1) return std::nullopt;
  const std::int64_t positions = options.model.seq_len;
  return SequencePlan{{positions, sp, kernels::sequence_tile(positions, sp)}, exchange_mode(options)};
}

MemoryEstimate estimate_memory(const model::ModelOptions& options, std::int64_t vocabulary_size,
                               const MemoryPlan& plan) {
  const StateLayout state(model::parameter_specs(options, vocabulary_size), plan.buckets,
                          held_by(plan.sequence));
  const parallel::ArenaLayout& layout = state.held();
  const auto master = static_cast<std::int64_t>(c10::elementSize(plan.placement.master));
  const auto compute = static_cast<std::int64_t>(c10::elementSize(plan.placement.compute));
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
                                                     .share = share_of(plan.sequence)});
  return {
      .parameters = (slices_alone ? owned : layout.size()) * master + (rounds ? layout.size() * compute : 0),
      .gradients = layout.size() * master,
      .optimizer = 2 * owned * master,
      .kept = activations.kept,
      .passing = activations.passing};
}

}  // namespace sluice::train
