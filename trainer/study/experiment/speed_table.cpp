#include <fmt/format.h>

#include <algorithm>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <numeric>

#include "trainer/study/experiment/tables.h"
#include "trainer/train/errors.h"

namespace sluice::study {
namespace {

using Json = nlohmann::json;
using Fields = std::map<std::string, std::string>;

const std::vector<std::string> kColumns = {"family",
                                           "model",
                                           "mode",
                                           "device",
                                           "device_model",
                                           "ranks",
                                           "dp",
                                           "sp",
                                           "sp_mode",
                                           "zero",
                                           "precision",
                                           "seq_len",
                                           "global_batch",
                                           "micro_batch",
                                           "params",
                                           "tokens_per_s",
                                           "tokens_per_s_low",
                                           "tokens_per_s_high",
                                           "step_s",
                                           "forward_s",
                                           "backward_s",
                                           "comm_exposed_s",
                                           "data_wait_s",
                                           "optimizer_s",
                                           "other_s",
                                           "mfu",
                                           "hfu",
                                           "power_w",
                                           "energy_per_token_j",
                                           "peak_memory_bytes",
                                           "rank_step_s_min",
                                           "rank_step_s_max",
                                           "predicted_step_s",
                                           "predicted_memory_bytes",
                                           "run",
                                           "reason",
                                           "version"};

std::string text_of(const Json& value) {
  if (value.is_null()) return "";
  if (value.is_string()) return value.get<std::string>();
  return value.is_number_float() ? fmt::format("{}", value.get<double>()) : value.dump();
}

/// Seconds of each rank's median step, by summing its phases.
std::vector<double> rank_steps(const Json& phases_by_rank) {
  std::vector<double> steps;
  for (const auto& [name, ranks] : phases_by_rank.items()) {
    const auto seconds = ranks.get<std::vector<double>>();
    steps.resize(std::max(steps.size(), seconds.size()));
    for (std::size_t i = 0; i < seconds.size(); ++i) steps[i] += seconds[i];
  }
  return steps;
}

void measured(const Json& bench, Fields& fields) {
  const auto& step = bench.at("step_s");
  const auto tokens = bench.at("tokens_per_step").get<double>();
  fields["device_model"] = text_of(bench.at("device"));
  fields["device"] = text_of(bench.at("device_kind"));
  fields["tokens_per_s"] = text_of(bench.at("tokens_per_s"));
  fields["tokens_per_s_low"] = fmt::format("{}", tokens / step.at("p90").get<double>());
  fields["tokens_per_s_high"] = fmt::format("{}", tokens / step.at("p10").get<double>());
  fields["step_s"] = text_of(step.at("median"));
  for (const auto& [name, seconds] : bench.at("phases_s").items()) fields[name + "_s"] = text_of(seconds);
  for (const char* const name : {"mfu", "hfu", "power_w", "energy_per_token_j"})
    fields[name] = text_of(bench.at(name));
  fields["params"] = text_of(bench.at("parameters"));
  constexpr double kGiB = 1024.0 * 1024.0 * 1024.0;
  fields["peak_memory_bytes"] = fmt::format("{:.0f}", bench.at("memory").at("peak_gib").get<double>() * kGiB);
  const auto ranks = rank_steps(bench.at("phases_by_rank_s"));
  if (ranks.empty()) return;
  fields["rank_step_s_min"] = fmt::format("{}", *std::ranges::min_element(ranks));
  fields["rank_step_s_max"] = fmt::format("{}", *std::ranges::max_element(ranks));
}

/// What a cell is: known before it is measured, from all of its settings.
Fields fields_of_settings(const Run& run) {
  const auto setting = [&](const std::string& key) {
    const auto found = run.resolved.find(key);
    return found == run.resolved.end() ? "" : found->second;
  };
  const auto sp = std::stoll(setting("parallel.sp"));
  return {{"family", run.family},
          {"model", run.model},
          {"mode", run.mode},
          {"ranks", std::to_string(run.ranks)},
          {"dp", std::to_string(run.ranks / sp)},
          {"sp", std::to_string(sp)},
          {"sp_mode", setting("parallel.sp_mode")},
          {"zero", setting("parallel.zero")},
          {"precision", setting("train.precision")},
          {"seq_len", setting("model.seq_len")},
          {"global_batch", setting("train.global_batch")},
          {"micro_batch", setting("train.micro_batch")},
          {"params", std::to_string(run.counts.params)},
          {"run", run.id}};
}

Fields fields_of(const StudyRun& one) {
  Fields fields = fields_of_settings(one.run);
  if (one.predicted) {
    fields["predicted_step_s"] = fmt::format("{}", one.predicted->step_s);
    fields["predicted_memory_bytes"] = fmt::format("{:.0f}", one.predicted->memory_bytes);
  }
  fields["version"] = one.state.version;
  const bool done = one.state.status == Status::kDone || one.state.status == Status::kOtherVersion;
  if (!done) {
    fields["reason"] = one.state.status == Status::kFailed ? one.state.reason : status_name(one.state.status);
    return fields;
  }
  const auto file = one.directory + "/bench.json";
  try {
    std::ifstream in(file);
    measured(Json::parse(in), fields);
  } catch (const Json::exception& fault) {
    throw train::InputError(fmt::format("{}: not what a speed study writes: {}", file, fault.what()));
  }
  return fields;
}

}  // namespace

Table speed_table(const std::vector<StudyRun>& runs) {
  Table table;
  table.columns = kColumns;
  for (const auto& one : runs) {
    if (one.run.role != Role::kSpeed) continue;
    auto fields = fields_of(one);
    auto& row = table.rows.emplace_back();
    for (const auto& column : kColumns) row.push_back(fields[column]);
  }
  return table;
}

}  // namespace sluice::study
