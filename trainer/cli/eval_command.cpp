#include <ATen/core/Tensor.h>
#include <fmt/format.h>

#include <cmath>
#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>

#include "dataio/corpus.h"
#include "parallel/agree.h"
#include "trainer/cli/arguments.h"
#include "trainer/cli/command.h"
#include "trainer/cli/eval_positions.h"
#include "trainer/cli/eval_range.h"
#include "trainer/cli/eval_sharing.h"
#include "trainer/cli/open_checkpoint.h"
#include "trainer/cli/option_table.h"
#include "trainer/cli/output.h"
#include "trainer/train/device_group.h"
#include "trainer/train/errors.h"
#include "trainer/train/evaluate.h"
#include "trainer/train/replica.h"
#include "trainer/train/sequence_ranks.h"
#include "trainer/train/shared_replica.h"
#include "trainer/train/stage.h"
#include "trainer/train/start_weights.h"
#include "trainer/train/threads.h"

namespace sluice::cli {
namespace {

std::vector<Flag> flags() {
  std::vector<Flag> all = {
      {.name = "--checkpoint",
       .value_name = "DIR",
       .help = "a checkpoint, or a run: its newest good one",
       .required = true},
      {.name = "--corpus",
       .value_name = "DIR",
       .help = "a directory that sluice prepare wrote",
       .required = true},
      {.name = "--stage",
       .value_name = "DIR",
       .help = "directory on each node's own disk to copy the corpus to first, as data.stage of train"},
      {.name = "--split", .value_name = "NAME", .help = "which part of the corpus", .default_value = "valid"},
      {.name = "--micro-batch",
       .value_name = "B",
       .help = "sequences at once on a rank",
       .default_value = "8"},
      {.name = "--precision",
       .value_name = "fp32|tf32|bf16|fp64",
       .help = "what is computed in: fp32 or fp64 on the CPU; fp32, tf32 or bf16 on a GPU",
       .default_value = "fp32"},
      {.name = "--device",
       .value_name = "auto|cpu|cuda",
       .help = "what computes: auto takes GPUs where every rank has one",
       .default_value = "auto"},
      {.name = "--threads",
       .value_name = "N",
       .help = "compute threads a rank; 0: its share of the cores",
       .default_value = "0"},
      json_flag()};
  for (const auto& more : {position_flags(), sharing_flags(), range_flags()})
    all.insert(all.end() - 1, more.begin(), more.end());
  return all;
}
const std::vector<Flag> kEvalFlags = flags();

/// Nats of a whole split as bits for each of its bytes or characters.
double bits_per(double nats, std::int64_t units) { return nats / std::log(2.0) / static_cast<double>(units); }

enum class CountText { kYes, kNo };

nlohmann::ordered_json summary(const train::CheckpointInfo& checkpoint, const dataio::Corpus& corpus,
                               const dataio::SplitLayout& split, const train::EvaluationResult& result,
                               CountText count_text) {
  nlohmann::ordered_json out = {{"checkpoint", checkpoint.directory.string()},
                                {"step", checkpoint.state.step},
                                {"corpus", corpus.directory().string()},
                                {"split", split.name},
                                {"tokens", result.tokens},
                                {"loss", result.loss},
                                {"perplexity", std::exp(result.loss)}};
  out["objective"] = checkpoint.model.causal ? "causal" : "mlm";
  // The text that some of a split's tokens stand for is not counted.
  if (count_text == CountText::kNo || !checkpoint.model.causal) return out;
  if (split.text_bytes > 0) out["bits_per_byte"] = bits_per(result.loss_sum, split.text_bytes);
  if (split.text_characters > 0) out["bits_per_character"] = bits_per(result.loss_sum, split.text_characters);
  return out;
}

nlohmann::ordered_json spans_json(const std::vector<PositionSpan>& spans) {
  nlohmann::ordered_json out = nlohmann::ordered_json::array();
  for (const PositionSpan& span : spans)
    out.push_back({{"first", span.first},
                   {"last", span.last},
                   {"predicted", span.loss.targets},
                   {"loss", span.loss.mean()}});  // null without a prediction
  return out;
}

void print_eval(const nlohmann::ordered_json& values) {
  const auto line = [&](const char* key, const char* name, const char* unit) {
    if (!values.contains(key)) return;
    const auto& value = values[key];
    const std::string text = value.is_string()         ? value.get<std::string>()
                             : value.is_number_float() ? fmt::format("{:.6f}", value.get<double>())
                                                       : value.dump();
    fmt::print("{:<20}{}{}\n", name, text, unit);
  };
  line("checkpoint", "checkpoint", "");
  line("step", "step", "");
  line("split", "split", "");
  line("objective", "objective", "");
  line("tokens", "tokens predicted", "");
  line("loss", "loss", " nats per token");
  line("perplexity", "perplexity", " per token");
  line("bits_per_byte", "bits per byte", "");
  line("bits_per_character", "bits per character", "");
}

enum class MaskToken { kNeeded, kIfThere };

/// As the run that wrote the checkpoint evaluated; none for a causal model. Throws train::InputError where
/// the tokenizer has no mask token, and one is needed.
std::optional<train::Masking> masking_of(const train::CheckpointInfo& checkpoint, MaskToken mask) {
  if (checkpoint.model.causal) return std::nullopt;
  const auto ids = train::mask_ids_of(*train::load_tokenizer(checkpoint));
  if (!ids && mask == MaskToken::kIfThere) return std::nullopt;
  if (!ids) {
    throw train::InputError(
        fmt::format("{}: a model that is not causal is evaluated as a masked language model, and its "
                    "tokenizer has no mask "
                    "token",
                    checkpoint.directory.string()));
  }
  const std::string& ini = checkpoint.resolved_ini;
  const auto trained =
      ini.empty() ? train::RunOptions{} : parse_run_options_text(ini, "the checkpoint's run");
  return train::evaluation_masking(trained.train, *ids);
}

int run_eval(const std::vector<std::string>& words, parallel::Communicator& world) {
  const Arguments arguments(kEvalFlags, words);
  const bool range = asks_for_range(arguments, world);
  const bool by_position = arguments.has("--by-position");
  const std::int64_t micro_batch = arguments.integer("--micro-batch", 1, 1'000'000);
  const std::string precision = arguments.choice("--precision", {"fp32", "tf32", "bf16", "fp64"});
  train::DeviceGroup group(arguments.choice("--device", {"auto", "cpu", "cuda"}), world);
  group.connect();
  train::set_compute_threads(arguments.integer("--threads", 0, 4096), world);
  const auto checkpoint = open_checkpoint(arguments.text("--checkpoint"), world);
  const auto corpus = open_corpus(arguments.text("--corpus"), world);
  const auto staged = train::stage_corpus(corpus, arguments.text("--stage"), world);
  if (world.rank() == 0)
    for (const std::string& line : staged.told) fmt::print(stderr, "sluice: {}\n", line);
  const train::RunOptions sharing = sharing_of(arguments, checkpoint.model, world);
  train::SequenceRanks sequence(sharing, group.exchange(), group.device());
  std::unique_ptr<train::Replica> replica;
  std::unique_ptr<dataio::SplitReader> reader;
  std::optional<train::Masking> masking;
  const auto placement = train::placement_for(precision, group.device());
  train::check_products(placement);
  const auto use =
      arguments.has("--gradients") ? train::ReplicaUse::kTraining : train::ReplicaUse::kInference;
  parallel::on_all_ranks(world, [&] {
    train::check_same_tokenizer(checkpoint, corpus);
    masking = masking_of(checkpoint, range ? MaskToken::kIfThere : MaskToken::kNeeded);
    if (sequence.ranks() == 1) replica = train::load_replica(checkpoint, placement, use);
    reader = std::make_unique<dataio::SplitReader>(staged.corpus.split(arguments.text("--split")),
                                                   checkpoint.vocabulary_size, dataio::ReaderOptions{});
  });
  if (!replica) replica = train::load_shared_replica(checkpoint, placement, sequence, group.exchange());
  train::EvaluationResult result;
  if (range) {
    const auto batch = evaluate_range(arguments, *replica, *reader, masking);
    result = {.loss = batch.loss, .tokens = batch.predicted};
  } else {
    const train::EvaluationPlan plan{.seq_len = checkpoint.model.seq_len,
                                     .micro_batch = micro_batch,
                                     .batches = 0,
                                     .device = group.device(),
                                     .masking = masking,
                                     .sequence = &sequence};
    const auto evaluate = by_position ? train::evaluate_positions : train::evaluate;
    result = evaluate(replica->model(), *reader, plan, world);
  }
  if (world.rank() != 0) return kDone;
  auto values =
      summary(checkpoint, corpus, reader->split(), result, range ? CountText::kNo : CountText::kYes);
  const std::vector<PositionSpan> spans = spans_of(result.positions);
  if (by_position) {
    write_positions(arguments, result.positions);
    values["positions"] = spans_json(spans);
  }
  print_result(arguments, values, [&] {
    print_eval(values);
    if (by_position) fmt::print("{}", position_table(spans));
  });
  return kDone;
}

}  // namespace

Command eval_command() {
  return {
      .name = "eval",
      .summary = "loss, perplexity and bits per byte of a model over a whole split",
      .help =
          "  sluice eval --checkpoint DIR|RUN --corpus DIR [--split valid] [--by-position OUT.csv] [--sp K] "
          "[--json]\n"
          "  sluice eval --checkpoint DIR|RUN --corpus DIR [--split valid] --tokens A:B [--logits FILE] "
          "[--gradients FILE]\n\n"
          "Each token but the first is predicted once, from up to n tokens before it within its window. "
          "Under mpirun\n"
          "the ranks share the split; the result does not depend on how many they are. Bits per byte and "
          "per character\n"
          "count the text that the split was made from; end-of-document tokens are predicted too. A "
          "masked language model "
          "predicts the tokens that its\n"
          "objective hides; these are the same in every evaluation.\n\n"
          "--by-position writes for each position of a window how many targets it had and their mean loss, "
          "and prints the same\n"
          "by powers of two: position i of a causal model has seen i + 1 tokens, so a loss that no longer "
          "falls says that what\n"
          "stands further back is not used. With --sp K, K ranks share each window, for a model that one "
          "of them cannot hold.\n\n"
          "--tokens A:B is one batch instead: inputs A to B - 1, side by side in rows of n, or fewer than n "
          "in one row;\n"
          "a range that is neither is refused. --logits and --gradients write what the model makes of it, "
          "fp32 (fp64 with\n"
          "--precision fp64), with tokens, targets and mean loss: docs/formats.md. "
          "tests/parity/check_export.py computes\n"
          "the same in plain PyTorch from sluice export --to sluice.\n\n" +
          flag_help(kEvalFlags),
      .run = run_eval,
      .ranks = Ranks::kMany};
}

}  // namespace sluice::cli
