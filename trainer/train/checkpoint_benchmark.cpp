#include "trainer/train/checkpoint_benchmark.h"

#include <ATen/ops/uniform.h>

#include <functional>
#include <memory>
#include <optional>
#include <utility>

#include "dataio/tokenizer.h"
#include "parallel/agree.h"
#include "trainer/optim/adamw.h"
#include "trainer/train/buckets.h"
#include "trainer/train/movers.h"
#include "trainer/train/replica.h"
#include "trainer/train/state_gather.h"
#include "trainer/train/step.h"
#include "trainer/train/stopwatch.h"

namespace sluice::train {

namespace {

/// Finds the checkpoint, which checks every digest, and gives every rank its state.
void read_back(const std::filesystem::path& checkpoint, const parallel::ArenaLayout& layout,
               const StateBuffers& live, parallel::Communicator& exchange, CheckpointBenchmark& result) {
  StateBuffers whole;
  Stopwatch watch;
  if (exchange.rank() == 0) {
    std::vector<std::string> warnings;
    const auto info = find_checkpoint(checkpoint, warnings);
    result.verify_s.push_back(watch.lap());
    whole = whole_buffers(layout, live);
    load_checkpoint(*info, layout, whole);
  }
  share_state(layout, whole, live, exchange);
  exchange.barrier();
  if (exchange.rank() == 0) result.load_s.push_back(watch.lap());
}

}  // namespace

CheckpointBenchmark benchmark_checkpoints(const RunOptions& options, std::int64_t vocabulary_size,
                                          const std::filesystem::path& directory, std::int64_t repeats,
                                          parallel::Communicator& world) {
  DeviceGroup group(options.train.device, world);
  connect_ranks(group, options, vocabulary_size);
  const Placement placement = placement_for(options.train.precision, group.device());
  const Sharding sharding = sharding_of(options);
  Replica replica(options.model, vocabulary_size, placement, ReplicaUse::kInference,
                  choose_buckets(options, vocabulary_size, group), model::Recompute::kNone,
                  parameter_owner(sharding, placement, world.rank()));
  const parallel::ArenaLayout& layout = replica.layout();
  const optim::AdamW optimizer(options.optim, replica.parameters(), replica.decayed_ranges(),
                               owned_ranges(layout, sharding, world.rank()));
  const StateBuffers live{.parameters = replica.parameters(),
                          .first_moment = optimizer.first_moment(),
                          .second_moment = optimizer.second_moment()};
  for (const at::Tensor& state : {live.parameters, live.first_moment, live.second_moment})
    state.uniform_(-1, 1);

  CheckpointBenchmark result{.parameters = replica.parameter_count(),
                             .device = group.name(),
                             .setup_s = 0,
                             .written = {},
                             .verify_s = {},
                             .load_s = {}};
  const auto tokenizer = dataio::make_byte_tokenizer();
  std::optional<CheckpointWriter> writer;
  Stopwatch setup;
  parallel::on_all_ranks(world, [&] {
    if (world.rank() == 0)
      writer.emplace(directory, layout, live.parameters.scalar_type(), group.device(), *tokenizer,
                     options.checkpoint);
  });
  result.setup_s = setup.lap();
  for (std::int64_t step = 1; step <= repeats; ++step) {
    world.barrier();
    const auto gather = [&](const StateBuffers& host) {
      gather_state_now(layout, live, host, group.exchange());
      return std::function<void()>();
    };
    CheckpointInfo info;
    info.state.step = step;
    info.model = options.model;
    info.vocabulary_size = vocabulary_size;
    info.world_size = world.size();
    if (writer) {
      writer->snapshot(std::move(info), gather);
      writer->finish();
      for (auto& written : writer->take_written()) result.written.push_back(std::move(written));
    } else {
      gather({});
    }
    read_back(writer ? result.written.back().directory : "", layout, live, group.exchange(), result);
  }
  return result;
}

}  // namespace sluice::train
