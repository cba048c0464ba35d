#include "tests/unit/train/support.h"

#include <fstream>
#include <nlohmann/json.hpp>

#include "dataio/tokenizer.h"
#include "parallel/replica_check.h"
#include "parallel/thread_communicator.h"
#include "tests/unit/dataio/corpus_fixture.h"
#include "trainer/train/state_gather.h"

namespace sluice::train {

void make_corpus(const std::filesystem::path& directory, dataio::MaskToken mask) {
  std::filesystem::create_directories(directory);
  const auto tokenizer = dataio::make_byte_tokenizer(mask);
  dataio::testing::write_corpus(directory, {{"train", {350, 250}}, {"valid", {77}}},
                                tokenizer->vocabulary_size());
  tokenizer->save(directory);
}

std::vector<nlohmann::json> lines_of(const std::filesystem::path& file) {
  std::ifstream in(file);
  std::vector<nlohmann::json> lines;
  for (std::string line; std::getline(in, line);) lines.push_back(nlohmann::json::parse(line));
  return lines;
}

RunOptions small_run(const std::filesystem::path& corpus, const std::filesystem::path& run) {
  RunOptions options;
  options.run.dir = run.string();
  options.data.corpus = corpus.string();
  options.data.reader_threads = 2;
  options.model.layers = 2;
  options.model.d_model = 8;
  options.model.d_ffn = 16;
  options.model.seq_len = 8;
  options.model.embedding_std = 0.5;
  options.model.init_std = 0.3;
  options.train.device = "cpu";
  options.train.steps = 20;
  options.train.global_batch = 8;
  options.train.micro_batch = 2;
  options.train.threads = 1;
  options.train.ledger = (run.parent_path() / (run.filename().string() + "-ledger.jsonl")).string();
  options.optim.lr = 1e-2;
  options.optim.warmup_steps = 3;
  options.eval.every = 10;
  options.checkpoint.every = 5;
  options.parallel.bucket_mb = 1e-3;  // several buckets
  options.parallel.check_replicas_every = 4;
  return options;
}

at::Tensor in_one_bucket(const parallel::ArenaLayout& layout, const at::Tensor& flat) {
  std::vector<parallel::TensorSpec> specs;
  for (const auto& entry : layout.entries()) specs.push_back({entry.name, entry.shape});
  const parallel::ArenaLayout plain(specs);
  const at::Tensor result = plain.allocate(flat.scalar_type(), at::kCPU);
  for (std::int64_t i = 0; i < static_cast<std::int64_t>(specs.size()); ++i)
    plain.view(result, i).copy_(layout.view(flat, i));
  return result;
}

bool replicas_agree(const Replica& replica, parallel::Communicator& world) {
  try {
    parallel::check_replicas(world, replica.layout(), replica.whole_parameters().cpu(), "replicas");
    return true;
  } catch (const parallel::ReplicaDrift&) {
    return false;
  }
}

RanksResult run_on_ranks(std::int64_t ranks, const RunOptions& options, const RunTricks& tricks) {
  RanksResult result;
  std::mutex mutex;
  parallel::run_thread_ranks(ranks, [&](parallel::Communicator& world) {
    const bool last = world.rank() + 1 == world.size();
    std::int64_t step = 0;
    SessionContext context;
    context.texts = {.resolved_ini = "[train]\nsteps = " + std::to_string(options.train.steps) + "\n",
                     .build = "test\n"};
    context.compare = [&](const std::string&, std::int64_t) { return tricks.verdict; };
    context.stop_wish = [&] {
      return last && ++step == tricks.stop_in_step ? StopWish::kStop : StopWish::kGoOn;
    };
    context.sink = &result.told;
    Session session(options, context, world);
    step = session.state().step;
    const TrainOutcome outcome = session.run();
    const Replica& replica = session.replica();
    const parallel::ArenaLayout& logical = replica.state_layout().logical();
    const auto allocate = [&] { return logical.allocate(replica.parameters().scalar_type(), at::kCPU); };
    const StateBuffers whole{
        .parameters = allocate(), .first_moment = allocate(), .second_moment = allocate()};
    gather_state_now(replica.state_layout(), session.live_state(), whole, world);
    const bool equal = replicas_agree(replica, world);
    if (world.rank() != 0) return;
    result.parameters = in_one_bucket(logical, whole.parameters);
    result.first_moment = in_one_bucket(logical, whole.first_moment);
    result.second_moment = in_one_bucket(logical, whole.second_moment);
    result.outcome = outcome;
    result.replicas_equal = equal;
  });
  return result;
}

}  // namespace sluice::train
