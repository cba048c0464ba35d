#include "trainer/study/metrics_file.h"

#include <fmt/format.h>

#include <cmath>
#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>
#include <string>

#include "trainer/train/errors.h"

namespace sluice::study {
namespace {

using nlohmann::json;

double number(const json& line, const char* key) {
  const auto found = line.find(key);
  if (found == line.end() || !found->is_number()) return std::numeric_limits<double>::quiet_NaN();
  return found->get<double>();
}

std::int64_t count(const json& line, const char* key) { return line.at(key).get<std::int64_t>(); }

TrainRecord train_record(const json& line) {
  return {.step = count(line, "step"),
          .tokens = count(line, "tokens"),
          .loss = number(line, "loss"),
          .lr = number(line, "lr"),
          .grad_norm = number(line, "grad_norm"),
          .tokens_per_s = number(line, "tokens_per_s"),
          .step_s = number(line, "step_s"),
          .data_wait_s = number(line, "data_wait_s"),
          .comm_exposed_s = number(line, "comm_exposed_s"),
          .forward_s = number(line, "forward_s"),
          .backward_s = number(line, "backward_s"),
          .optimizer_s = number(line, "optimizer_s"),
          .mfu = number(line, "mfu"),
          .energy_per_token_j = number(line, "energy_per_token_j"),
          .flops_per_token = number(line, "flops_per_s") / number(line, "tokens_per_s_per_gpu")};
}

ValidRecord valid_record(const json& line) {
  ValidRecord record{
      .step = count(line, "step"), .tokens = count(line, "tokens"), .loss = number(line, "loss")};
  for (const json& one : line.value("corpora", json::array())) {
    record.corpora.push_back({.corpus = one.at("corpus").get<std::string>(),
                              .share = number(one, "share"),
                              .loss = number(one, "loss")});
  }
  return record;
}

void add_line(const std::string& text, Metrics& metrics) {
  const json line = json::parse(text);
  const std::string kind = line.at("kind").get<std::string>();
  if (kind == "train") {
    metrics.train.push_back(train_record(line));
  } else if (kind == "valid") {
    metrics.valid.push_back(valid_record(line));
  }
}

}  // namespace

Metrics read_metrics(const std::filesystem::path& file) {
  std::ifstream in(file);
  if (!in) throw train::InputError(fmt::format("{}: cannot be read", file.string()));
  Metrics metrics;
  std::string text;
  for (std::int64_t number_of_line = 1; std::getline(in, text); ++number_of_line) {
    if (text.empty()) continue;
    try {
      add_line(text, metrics);
    } catch (const json::exception& fault) {
      // A kill tears the last line at most: anywhere else the file is not what it should be.
      if (in.peek() == std::ifstream::traits_type::eof()) break;
      throw train::InputError(
          fmt::format("{}, line {}: not a line of metrics: {}", file.string(), number_of_line, fault.what()));
    }
  }
  return metrics;
}

}  // namespace sluice::study
