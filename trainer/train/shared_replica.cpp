#include "trainer/train/shared_replica.h"

#include <optional>

#include "parallel/agree.h"
#include "trainer/train/state_gather.h"

namespace sluice::train {

std::unique_ptr<Replica> load_shared_replica(const CheckpointInfo& info, const Placement& placement,
                                             const SequenceRanks& sequence,
                                             parallel::Communicator& exchange) {
  std::unique_ptr<Replica> replica;
  at::Tensor whole;
  parallel::on_all_ranks(exchange, [&] {
    replica = std::make_unique<Replica>(
        info.model, info.vocabulary_size, placement, ReplicaUse::kInference,
        parallel::BucketPlan{.world = exchange.size(), .sequence_ranks = sequence.ranks()},
        model::Recompute::kNone, std::nullopt, sequence.exchange());
    if (exchange.rank() != 0) return;
    whole = whole_buffer(replica->state_layout(), replica->parameters());
    load_checkpoint(info, replica->state_layout().logical(),
                    {.parameters = whole, .first_moment = {}, .second_moment = {}});
  });
  share_buffer(replica->state_layout(), whole, replica->parameters(), exchange);
  replica->round_parameters();
  return replica;
}

}  // namespace sluice::train
