#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "dataio/describe.h"
#include "dataio/tokenizer.h"
#include "trainer/cli/arguments.h"
#include "trainer/cli/command.h"
#include "trainer/cli/inspect_fit.h"
#include "trainer/cli/inspect_model.h"
#include "trainer/cli/option_table.h"
#include "trainer/cli/output.h"
#include "trainer/cli/place.h"
#include "trainer/cli/terminal.h"
#include "trainer/model/flops.h"
#include "trainer/study/metrics_file.h"
#include "trainer/train/checkpoint.h"
#include "trainer/train/errors.h"
#include "trainer/train/files.h"

namespace sluice::cli {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

constexpr const char* kMemory = "memory_bytes";  ///< of a rank

std::vector<Flag> all_flags() {
  std::vector<Flag> flags = {
      json_flag(),
      {.name = "--tokens", .value_name = "A:B", .help = "of a corpus: tokens A to B - 1, and their text"},
      {.name = "--split",
       .value_name = "NAME",
       .help = "with --tokens: which part of the corpus",
       .default_value = "train"}};
  for (const Flag& flag : model_flags()) flags.push_back(flag);
  return flags;
}

const std::vector<Flag> kInspectFlags = all_flags();

Json corpus_summary(const fs::path& path) {
  const auto corpus = dataio::describe_corpus(path);
  Json splits = Json::object();
  for (const auto& split : corpus.splits) {
    Json shards = Json::array();
    for (const auto& shard : split.shards) {
      shards.push_back({{"file", shard.file},
                        {"tokens", shard.tokens},
                        {"documents", shard.documents},
                        {"bytes", shard.file_bytes},
                        {"xxh3", shard.xxh3}});
    }
    splits[split.name] = {{"tokens", split.tokens},
                          {"documents", split.documents},
                          {"text_bytes", split.text_bytes},
                          {"text_characters", split.text_characters},
                          {"shards", shards}};
  }
  return {{"kind", "corpus"},
          {"path", path.string()},
          {"version", corpus.version},
          {"tokenizer", corpus.tokenizer_kind},
          {"vocabulary_size", corpus.vocabulary_size},
          {"end_of_document", corpus.end_of_document},
          {"dtype", corpus.dtype},
          {"fingerprint", corpus.fingerprint},
          {"splits", splits}};
}

/// `flops`: of a training step's token.
Json model_summary(const model::ModelOptions& options, std::int64_t vocabulary_size,
                   const model::FlopCount& flops) {
  const auto parts = model_parts(options, vocabulary_size);
  const auto parameters = count_parameters(parts);
  const auto positions = static_cast<double>(options.seq_len);
  const double forward = flops.useful_per_token / 3;  // backward is twice forward
  Json rows = Json::array();
  for (const auto& part : parts)
    rows.push_back({{"name", part.name}, {"tensors", part.tensors}, {"parameters", part.parameters}});
  return {{"kind", options.kind},
          {"layers", options.layers},
          {"d_model", options.d_model},
          {"d_ffn", options.d_ffn},
          {"seq_len", options.seq_len},
          {"tied", options.tied},
          {"vocabulary_size", vocabulary_size},
          {"parameters", parameters.all},
          {"parameters_without_embeddings", parameters.without_embeddings},
          {"parameters_without_spatial_weights", parameters.without_spatial},
          {"flops_per_token", flops.useful_per_token},
          {"executed_flops_per_token", flops.executed_per_token},
          {"forward_flops_per_token", forward},
          {"flops_per_sequence", flops.useful_per_token * positions},
          {"executed_flops_per_sequence", flops.executed_per_token * positions},
          {"forward_flops_per_sequence", forward * positions},
          {"parts", rows}};
}

train::CheckpointInfo find_good(const fs::path& path) {
  std::vector<std::string> warnings;
  const auto found = train::find_checkpoint(path, warnings);
  for (const auto& warning : warnings) fmt::print(stderr, "sluice: warning: {}\n", warning);
  if (!found) throw train::InputError(path.string() + ": has no good checkpoint yet");
  return *found;
}

Json checkpoint_summary(const fs::path& path) {
  const auto info = find_good(path);
  Json out = {{"kind", "checkpoint"},
              {"path", info.directory.string()},
              {"step", info.state.step},
              {"tokens", info.state.tokens},
              {"next_sample", info.state.next_sample},
              {"ranks", info.world_size},
              {"corpus_fingerprint", info.corpus_fingerprint}};
  for (const auto& corpus : info.corpora)
    out["corpora"].push_back({{"fingerprint", corpus.fingerprint}, {"weight", corpus.weight}});
  out["model"] =
      model_summary(info.model, info.vocabulary_size, model::count_flops(info.model, info.vocabulary_size));
  return out;
}

Json run_summary(const fs::path& path) {
  Json out = {{"kind", "run"}, {"path", path.string()}};
  if (fs::exists(path / "resolved.ini")) {
    const auto options =
        parse_run_options_text(train::read_file(path / "resolved.ini"), (path / "resolved.ini").string());
    out["steps"] = options.train.steps;
    out["corpus"] = options.data.corpus;
  }
  if (fs::exists(path / "metrics.jsonl")) {
    const auto metrics = study::read_metrics(path / "metrics.jsonl");
    if (!metrics.train.empty()) {
      const auto& last = metrics.train.back();
      out["steps_done"] = last.step;
      out["tokens"] = last.tokens;
      out["train_loss"] = last.loss;
      out["tokens_per_s"] = last.tokens_per_s;
    }
    if (!metrics.valid.empty()) {
      out["valid_loss"] = metrics.valid.back().loss;
      out["valid_loss_at_step"] = metrics.valid.back().step;
      for (const auto& one : metrics.valid.back().corpora)
        out["valid_losses"].push_back({{"corpus", one.corpus}, {"share", one.share}, {"loss", one.loss}});
    }
  }
  Json names = Json::array();
  for (const auto& checkpoint : checkpoints_of(path)) names.push_back(checkpoint.filename().string());
  out["checkpoints"] = names;
  if (!names.empty()) out["newest_good_checkpoint"] = checkpoint_summary(path);
  return out;
}

Json tokenizer_summary(const fs::path& path) {
  const auto tokenizer = dataio::load_tokenizer(path);
  Json out = {{"kind", "tokenizer"},
              {"path", path.string()},
              {"tokenizer", tokenizer->kind()},
              {"vocabulary_size", tokenizer->vocabulary_size()},
              {"end_of_document", tokenizer->end_of_document()}};
  if (const auto mask = tokenizer->mask_token()) out["mask_token"] = *mask;
  return out;
}

Json summary_of(const fs::path& path) {
  switch (place_of(path)) {
    case Place::kCorpus:
      return corpus_summary(path);
    case Place::kCheckpoint:
      return checkpoint_summary(path);
    case Place::kRun:
      return run_summary(path);
    case Place::kTokenizer:
      return tokenizer_summary(path);
  }
  return {};
}

std::string scalar_text(const Json& value) {
  if (value.is_string()) return value.get<std::string>();
  if (value.is_number_integer()) return full_count(value.get<std::int64_t>());
  if (value.is_number_float() && value.get<double>() >= 1e6) return short_count(value.get<double>());
  if (value.is_number_float()) return fmt::format("{:.6g}", value.get<double>());
  return value.dump();
}

/// The values of an object of scalars, in one line: a shard, a part of a model.
std::string row_text(const Json& object) {
  std::string text;
  for (const auto& [key, value] : object.items()) {
    const bool is_name = value.is_string();
    text += (text.empty() ? "" : "  ") + scalar_text(value) + (is_name ? "" : " " + key);
  }
  return text;
}

void print_readable(const Json& object, const std::string& indent) {
  for (const auto& [key, value] : object.items()) {
    std::string name = key;
    std::replace(name.begin(), name.end(), '_', ' ');
    if (key == kMemory) {
      fmt::print("{}memory, estimated\n", indent);
      for (const auto& [part, bytes] : value.items())
        fmt::print("{}  {:<33} {}\n", indent, part, byte_text(bytes.get<std::int64_t>()));
    } else if (value.is_object()) {
      fmt::print("{}{}\n", indent, name);
      print_readable(value, indent + "  ");
    } else if (value.is_array()) {
      fmt::print("{}{}\n", indent, name);
      for (const auto& one : value)
        fmt::print("{}  {}\n", indent, one.is_object() ? row_text(one) : scalar_text(one));
    } else {
      fmt::print("{}{:<35} {}\n", indent, name, scalar_text(value));
    }
  }
}

Json window_summary(const fs::path& path, const Arguments& arguments) {
  const auto [begin, end] = arguments.range("--tokens");
  if (place_of(path) != Place::kCorpus) throw train::InputError(path.string() + ": --tokens needs a corpus");
  const auto window = dataio::read_window(path, arguments.text("--split"), begin, end);
  return {{"split", arguments.text("--split")},
          {"begin", begin},
          {"end", end},
          {"ids", window.ids},
          {"text", window.text}};
}

/// {memory, ways: [{sp, sp_mode, largest, memory_by_n: [{n, bytes}]}]}
Json fit_json(const FitTable& table) {
  Json out = {{"memory", table.memory}, {"ways", Json::array()}};
  for (std::size_t way = 0; way < table.ways.size(); ++way) {
    Json rows = Json::array();
    for (const FitTable::Row& row : table.rows)
      if (row.bytes[way]) rows.push_back({{"n", row.positions}, {"bytes", *row.bytes[way]}});
    out["ways"].push_back({{"sp", table.ways[way].sp},
                           {"sp_mode", table.ways[way].mode},
                           {"largest", table.largest[way]},
                           {"memory_by_n", rows}});
  }
  return out;
}

int inspect_model(const Arguments& arguments) {
  if (!arguments.positional().empty())
    throw train::InputError("--model: takes the place of PATH, give one of them");
  const auto options = model_settings(arguments);
  const auto vocabulary = arguments.integer("--vocabulary", 2, 1 << 30);
  const auto sp = options.parallel.sp;
  const auto ranks = arguments.has("--ranks") ? arguments.integer("--ranks", 1, 1'000'000) : sp;
  const auto figures = rank_figures(options, vocabulary, ranks);
  const auto& memory = figures.memory;
  Json summary = model_summary(options.model, vocabulary, figures.flops);
  summary["predicted_positions"] = figures.predicted_positions;
  summary["rank"] = {{"ranks", ranks},
                     {"device", figures.device},
                     {"precision", options.train.precision},
                     {"sequences_at_once", options.train.micro_batch},
                     {"recompute", options.train.recompute},
                     {"zero", options.parallel.zero}};
  if (sp > 1) {
    summary["rank"]["sp"] = sp;
    summary["rank"]["sp_mode"] = options.parallel.sp_mode;
  }
  summary[kMemory] = {{"parameters", memory.parameters}, {"gradients", memory.gradients},
                      {"optimizer", memory.optimizer},   {"activations", memory.kept},
                      {"passing", memory.passing},       {"total", memory.total()}};
  const auto device_bytes = device_memory(arguments);
  std::optional<FitTable> fit;
  if (device_bytes) fit = fit_table(options, vocabulary, ranks / sp, *device_bytes);
  if (fit && arguments.has("--json")) summary["fit"] = fit_json(*fit);
  print_result(arguments, summary, [&] {
    print_readable(summary, "");
    if (fit) fmt::print("{}", fit_text(*fit));
  });
  return kDone;
}

int run_inspect(const std::vector<std::string>& words, parallel::Communicator&) {
  const Arguments arguments(kInspectFlags, words, "[PATH]");
  if (arguments.has("--model")) return inspect_model(arguments);
  if (arguments.positional().empty()) throw train::InputError("PATH: must be given, or --model FILE");
  const fs::path path = arguments.positional().front();
  if (arguments.has("--tokens")) {
    const auto window = window_summary(path, arguments);
    // It may cut a character in two.
    print_result(arguments, window,
                 [&] { fmt::print("{}\n", window["text"].get_ref<const std::string&>()); });
    return kDone;
  }
  const auto summary = summary_of(path);
  print_result(arguments, summary, [&] { print_readable(summary, ""); });
  return kDone;
}

}  // namespace

Command inspect_command() {
  return {
      .name = "inspect",
      .summary = "say what a corpus, checkpoint, run, tokenizer or model is",
      .help =
          "  sluice inspect PATH [--json] [--tokens A:B [--split NAME]]\n"
          "  sluice inspect --model FILE [--vocabulary V] [--batch B] [--precision NAME] [--device NAME]\n"
          "      [--recompute NAME] [--zero N --ranks R] [--sp K [--sp-mode NAME]] [--memory GIB|auto] "
          "[--json]\n\n"
          "FLOPs count 2 for a multiplication and an addition, matrix products alone; forward alone is a "
          "third "
          "of the useful ones.\n"
          "Memory: parameters, gradients and optimizer are what a run allocates; activations are counted "
          "from "
          "what each operator\n"
          "keeps for backward, and what passes is the most that comes and goes beside them. Workspaces, "
          "fragmentation and the\n"
          "CUDA context come on top.\n\n" +
          flag_help(kInspectFlags),
      .run = run_inspect};
}

}  // namespace sluice::cli
