#include "trainer/train/records.h"

#include <fmt/format.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <utility>
#include <vector>

#include "trainer/train/checkpoint_writer.h"
#include "trainer/train/errors.h"

namespace sluice::train {

namespace {

using OrderedJson = nlohmann::ordered_json;  // lines keep the documented order

void add_known(OrderedJson& line, const char* key, const std::optional<double>& value) {
  if (value) line[key] = *value;
}

/// A line of kind "train": its keys but for the counters, seconds by cause together, losses by split.
std::vector<Scalar> scalars_of(const OrderedJson& line) {
  std::vector<Scalar> scalars;
  for (const auto& [key, value] : line.items()) {
    if (!value.is_number() || key == "step") continue;
    const bool time = key.ends_with("_s") && !key.ends_with("_per_s");
    const std::string tag = key == "loss" ? "loss/train" : time ? "seconds/" + key : key;
    scalars.push_back({.tag = tag, .value = value.get<double>()});
  }
  return scalars;
}

}  // namespace

LinesKept cut_lines(const std::filesystem::path& file, std::int64_t step) {
  LinesKept kept;
  if (!std::filesystem::exists(file)) return kept;
  std::ifstream in(file, std::ios::binary);
  std::int64_t good_bytes = 0;
  std::string line;
  while (std::getline(in, line)) {
    const bool whole = !in.eof();  // a line without its newline was torn
    const OrderedJson json = OrderedJson::parse(line, nullptr, false);
    const bool has_step = json.is_object() && json.contains("step") && json["step"].is_number_integer();
    if (!whole) break;
    if (!has_step) {
      if (in.peek() == std::ifstream::traits_type::eof()) break;
      throw InputError(
          fmt::format("{}: line {} is no JSON object with a step", file.string(), kept.lines + 1));
    }
    if (json["step"].get<std::int64_t>() > step) break;
    if (json.value("kind", "") == "valid") kept.last_valid_step = json["step"].get<std::int64_t>();
    ++kept.lines;
    good_bytes += static_cast<std::int64_t>(line.size()) + 1;
  }
  in.close();
  truncate_file(file, good_bytes);
  return kept;
}

RunRecords::RunRecords(const std::filesystem::path& run_directory, const TrainOptions& options,
                       dataio::MixedOrder order, std::int64_t steps)
    : options_(options), order_(std::move(order)), metrics_(run_directory / "metrics.jsonl") {
  if (options_.tensorboard) events_.emplace(run_directory, steps);
  if (!options_.ledger.empty()) ledger_.emplace(options_.ledger);
}

void RunRecords::step(std::int64_t steps, std::int64_t tokens, const StepResult& result,
                      const StepMetrics& metrics) {
  OrderedJson line = {{"kind", "train"},
                      {"step", steps},
                      {"tokens", tokens},
                      {"loss", result.loss},
                      {"lr", result.lr},
                      {"grad_norm", result.grad_norm},
                      {"tokens_per_s", metrics.tokens_per_s},
                      {"tokens_per_s_per_gpu", metrics.tokens_per_s_per_gpu},
                      {"step_s", result.step_s},
                      {"data_wait_s", result.data_wait_s},
                      {"comm_exposed_s", result.comm_exposed_s},
                      {"forward_s", result.forward_s},
                      {"backward_s", result.backward_s},
                      {"optimizer_s", result.optimizer_s},
                      {"other_s", other_s(result)},
                      {"flops_per_s", metrics.flops_per_s},
                      {"peak_memory_bytes", metrics.peak_memory_bytes}};
  add_known(line, "mfu", metrics.mfu);
  add_known(line, "hfu", metrics.hfu);
  add_known(line, "mfu_datasheet", metrics.mfu_datasheet);
  add_known(line, "power_w", metrics.power_w);
  add_known(line, "energy_per_token_j", metrics.energy_per_token_j);
  metrics_.append(line.dump());
  if (events_) events_->append(steps, scalars_of(line));
}

void RunRecords::skipped(std::int64_t steps, std::int64_t tokens, const dataio::SampleRange& samples,
                         const StepResult& result) {
  // A number that is not finite becomes null: JSON has no other way.
  const OrderedJson line = {{"kind", "skipped"},
                            {"step", steps},
                            {"tokens", tokens},
                            {"loss", result.loss},
                            {"grad_norm", result.grad_norm},
                            {"first", samples.first},
                            {"count", samples.count}};
  metrics_.append(line.dump());
}

void RunRecords::valid(std::int64_t steps, std::int64_t tokens, const Validation& validation) {
  OrderedJson line = {{"kind", "valid"},
                      {"step", steps},
                      {"tokens", tokens},
                      {"loss", validation.loss},
                      {"eval_tokens", validation.tokens}};
  if (validation.corpora.size() > 1) {
    for (const CorpusValidation& one : validation.corpora) {
      line["corpora"].push_back({{"corpus", one.corpus},
                                 {"share", one.share},
                                 {"loss", one.result.loss},
                                 {"eval_tokens", one.result.tokens}});
    }
  }
  metrics_.append(line.dump());
  if (!events_) return;
  std::vector<Scalar> scalars{{.tag = "loss/valid", .value = validation.loss}};
  if (validation.corpora.size() > 1) {
    for (const CorpusValidation& one : validation.corpora)
      scalars.push_back({.tag = "loss/valid/" + one.corpus, .value = one.result.loss});
  }
  events_->append(steps, scalars);
}

void RunRecords::checkpoint(const WrittenCheckpoint& written) {
  const OrderedJson line = {{"kind", "checkpoint"},
                            {"step", written.step},
                            {"stall_s", written.stall_s},
                            {"write_s", written.write_s},
                            {"bytes", written.bytes}};
  metrics_.append(line.dump());
}

void RunRecords::consumed(std::int64_t steps, const dataio::SampleRange& samples) {
  if (!ledger_) return;
  OrderedJson line = {{"step", steps}, {"first", samples.first}, {"count", samples.count}};
  const bool mixes = order_.orders().size() > 1;
  const bool full = options_.ledger_detail == "full";
  std::vector<std::int64_t> counts(order_.orders().size(), 0);
  std::vector<std::int64_t> parts;
  std::vector<std::int64_t> begins;
  std::vector<std::int64_t> ends;
  for (std::int64_t i = 0; (mixes || full) && i < samples.count; ++i) {
    const auto [part, window] = order_.sample(samples.first + i);
    ++counts[static_cast<std::size_t>(part)];
    parts.push_back(part);
    begins.push_back(window.begin);
    ends.push_back(window.end);
  }
  if (mixes) line["corpus_counts"] = counts;
  if (mixes && full) line["corpus"] = parts;
  if (full) {
    line["begin"] = begins;
    line["end"] = ends;
  }
  ledger_->append(line.dump());
}

void RunRecords::sync() {
  metrics_.sync();
  if (ledger_) ledger_->sync();
}

}  // namespace sluice::train
