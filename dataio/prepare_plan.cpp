#include "dataio/prepare_plan.h"

#include <xxhash.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <optional>
#include <thread>

#include "dataio/error.h"
#include "dataio/sentencepiece_support.h"

namespace sluice::dataio {
namespace {

constexpr std::int64_t kSmallestVocabulary = 300;  // 256 bytes, the marks, and something to learn
constexpr std::int64_t kLargestVocabulary = 1000000;
constexpr std::string_view kModelPrefix = "sentencepiece:";
constexpr std::string_view kTrainPrefix = "train-sentencepiece:";

using Faults = std::vector<InputFault>;

std::optional<std::int64_t> integer(std::string_view text) {
  std::int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

std::string quoted(const std::string& text) { return std::string("'").append(text).append("'"); }

void check_sentencepiece(const std::string& spec, Faults& faults) {
  if (!has_sentencepiece()) faults.push_back({"--tokenizer", quoted(spec) + ": " + kWithoutSentencePiece});
}

void plan_tokenizer(const std::string& spec, PreparePlan& plan, Faults& faults) {
  if (spec == "bytes") {
    plan.tokenizer = TokenizerSource::kBytes;
  } else if (spec == "chars") {
    plan.tokenizer = TokenizerSource::kChars;
  } else if (spec.starts_with(kModelPrefix) && spec.size() > kModelPrefix.size()) {
    plan.tokenizer = TokenizerSource::kModelFile;
    check_sentencepiece(spec, faults);
    plan.model = spec.substr(kModelPrefix.size());
    std::error_code ignored;
    if (!std::filesystem::is_regular_file(plan.model, ignored)) {
      faults.push_back({plan.model, "no such file (--tokenizer " + spec + ")"});
    }
  } else if (spec.starts_with(kTrainPrefix)) {
    plan.tokenizer = TokenizerSource::kTrain;
    check_sentencepiece(spec, faults);
    plan.vocabulary = integer(std::string_view(spec).substr(kTrainPrefix.size())).value_or(0);
    if (plan.vocabulary < kSmallestVocabulary || plan.vocabulary > kLargestVocabulary) {
      faults.push_back({"--tokenizer", quoted(spec) + ": the vocabulary must be a whole number from " +
                                           std::to_string(kSmallestVocabulary) + " to " +
                                           std::to_string(kLargestVocabulary)});
    }
  } else {
    faults.push_back({"--tokenizer", quoted(spec) + ": allowed are bytes, chars, sentencepiece:MODEL, "
                                                    "train-sentencepiece:VOCAB"});
  }
}

void plan_numbers(const PrepareOptions& options, PreparePlan& plan, Faults& faults) {
  plan.documents = options.documents;
  plan.split = options.split;
  plan.valid_fraction = options.valid_fraction;
  plan.shard_tokens = options.shard_tokens;
  check_cut(options.valid_fraction, options.shard_tokens, faults);
  constexpr std::int64_t kMostJobs = 1024;
  if (options.jobs < 0 || options.jobs > kMostJobs) {
    faults.push_back({"--jobs", std::to_string(options.jobs) + ": allowed are 0 (all cores) to " +
                                    std::to_string(kMostJobs)});
  }
  plan.jobs =
      options.jobs > 0 ? options.jobs : std::max<std::int64_t>(1, std::thread::hardware_concurrency());
}

}  // namespace

std::filesystem::path plan_output(const std::filesystem::path& out, Faults& faults) {
  std::filesystem::path planned = out.lexically_normal();
  if (!planned.has_filename()) planned = planned.parent_path();
  std::error_code ignored;
  const auto name = planned.filename();
  if (name.empty() || name == "." || name == "..") {
    faults.push_back({"--out", quoted(out.string()) + " is not the name of a new directory"});
  } else if (std::filesystem::exists(std::filesystem::symlink_status(planned, ignored))) {
    faults.push_back({planned, "exists already; prepare makes a new directory and overwrites nothing"});
  }
  return planned;
}

void check_cut(double valid_fraction, std::int64_t shard_tokens, Faults& faults) {
  if (!(valid_fraction >= 0 && valid_fraction < 1)) {
    faults.push_back({"--valid-fraction", std::to_string(valid_fraction) + ": allowed is 0 <= F < 1"});
  }
  if (shard_tokens < 1) {
    faults.push_back({"--shard-tokens", std::to_string(shard_tokens) + ": allowed are 1 and more"});
  }
}

void report(const Faults& faults) {
  if (faults.empty()) return;
  std::string reason = faults.front().reason;
  for (std::size_t i = 1; i < faults.size(); ++i) {
    reason.append("\n").append(faults[i].path.string()).append(": ").append(faults[i].reason);
  }
  throw DataError(faults.front().path, reason);
}

PreparePlan plan_preparation(const PrepareOptions& options) {
  PreparePlan plan;
  InputListing listing = list_inputs(options.inputs);
  Faults faults = std::move(listing.faults);
  plan.files = std::move(listing.files);
  for (const auto& file : plan.files) plan.input_bytes += file.bytes;
  if (options.inputs.empty()) faults.push_back({"--input", "names no file or directory"});
  if (faults.empty() && plan.input_bytes == 0) {
    faults.push_back({options.inputs.front(), options.inputs.size() == 1
                                                  ? "has no text in it (0 bytes)"
                                                  : "and the other inputs have no text (0 bytes)"});
  }
  plan_tokenizer(options.tokenizer, plan, faults);
  plan.mask_token = options.mask_token;
  plan.out = plan_output(options.out, faults);
  plan_numbers(options, plan, faults);
  report(faults);
  return plan;
}

const char* name_of(SplitName split) { return split == SplitName::kTrain ? "train" : "valid"; }

SplitName split_of_document(std::string_view first_piece, double valid_fraction) {
  constexpr std::size_t kHashedBytes = 4096;
  constexpr std::uint64_t kSeed =
      0x736C756963653031;  // part of the format: changing it moves documents between splits
  const std::string_view head = first_piece.substr(0, kHashedBytes);
  const std::uint64_t hash = XXH3_64bits_withSeed(head.data(), head.size(), kSeed);
  return std::ldexp(static_cast<double>(hash >> 11U), -53) < valid_fraction ? SplitName::kValid
                                                                            : SplitName::kTrain;
}

}  // namespace sluice::dataio
