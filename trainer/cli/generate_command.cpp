#include <fmt/format.h>

#include <cstdio>
#include <limits>

#include "trainer/cli/arguments.h"
#include "trainer/cli/command.h"
#include "trainer/cli/open_checkpoint.h"
#include "trainer/train/errors.h"
#include "trainer/train/generate.h"
#include "trainer/train/replica.h"
#include "trainer/train/text_stream.h"
#include "trainer/train/threads.h"

namespace sluice::cli {
namespace {

constexpr std::int64_t kMost = std::numeric_limits<std::int64_t>::max();

const std::vector<Flag> kGenerateFlags = {
    {.name = "--checkpoint",
     .value_name = "DIR",
     .help = "a checkpoint, or a run: its newest good one",
     .required = true},
    {.name = "--prompt",
     .value_name = "TEXT",
     .help = "text to go on from; default: the start of a document"},
    {.name = "--tokens", .value_name = "N", .help = "tokens to generate", .required = true},
    {.name = "--temperature",
     .value_name = "T",
     .help = "logits are divided by it; 0 is greedy",
     .default_value = "1"},
    {.name = "--top-k",
     .value_name = "K",
     .help = "choose among the K likeliest tokens; 0: all",
     .default_value = "0"},
    {.name = "--top-p",
     .value_name = "P",
     .help = "then among the fewest whose probabilities reach P",
     .default_value = "1"},
    {.name = "--greedy", .help = "always the likeliest token"},
    {.name = "--seed",
     .value_name = "S",
     .help = "of the choices; the same seed gives the same text",
     .default_value = "0"},
    {.name = "--slide",
     .value_name = "K",
     .help =
         "past n tokens, encode the last n - K + 1 anew every K tokens; 1: always the last n; default n / 4"},
    {.name = "--threads", .value_name = "N", .help = "compute threads; 0: all cores", .default_value = "0"}};

train::SamplingOptions sampling_options(const Arguments& arguments) {
  constexpr double kLeast = std::numeric_limits<double>::min();
  train::SamplingOptions options{.temperature = arguments.number("--temperature", 0.0, 1e6),
                                 .top_k = arguments.integer("--top-k", 0, kMost),
                                 .top_p = arguments.number("--top-p", kLeast, 1.0),
                                 .seed = static_cast<std::uint64_t>(arguments.integer("--seed", 0, kMost))};
  if (arguments.has("--greedy")) options.temperature = 0.0;
  return options;
}

std::vector<std::int32_t> encode_prompt(const dataio::Tokenizer& tokenizer, const std::string& text) {
  std::vector<std::int32_t> ids;
  try {
    tokenizer.encode(text, ids);
  } catch (const std::invalid_argument& fault) {
    throw train::InputError(fmt::format("--prompt: {}", fault.what()));
  }
  if (ids.empty()) ids.push_back(tokenizer.end_of_document());
  return ids;
}

void print(const std::string& text) {
  std::fputs(text.c_str(), stdout);
  std::fflush(stdout);
}

int run_generate(const std::vector<std::string>& words, parallel::Communicator& world) {
  const Arguments arguments(kGenerateFlags, words);
  const auto sampling = sampling_options(arguments);
  const std::int64_t count = arguments.integer("--tokens", 0, kMost);
  train::set_compute_threads(arguments.integer("--threads", 0, 4096), world);
  const auto checkpoint = open_checkpoint(arguments.text("--checkpoint"), world);
  check_generates(checkpoint.model, checkpoint.directory.string());
  const std::int64_t seq_len = checkpoint.model.seq_len;
  const std::int64_t slide =
      arguments.has("--slide") ? arguments.integer("--slide", 1, seq_len) : train::default_slide(seq_len);
  const auto tokenizer = train::load_tokenizer(checkpoint);
  const auto prompt = encode_prompt(*tokenizer, arguments.text("--prompt"));
  const auto replica = train::load_replica(checkpoint, at::kFloat);

  print(arguments.text("--prompt"));
  train::TextStream stream(*tokenizer, prompt);
  train::generate(replica->model(), {.seq_len = seq_len, .slide = slide}, sampling,
                  {prompt.begin(), prompt.end()}, count,
                  [&](std::int64_t token) { print(stream.push(static_cast<std::int32_t>(token))); });
  print(stream.finish() + "\n");
  return kDone;
}

}  // namespace

Command generate_command() {
  return {.name = "generate",
          .summary = "go on from a prompt, printing as the model writes",
          .help =
              "  sluice generate --checkpoint DIR|RUN --prompt TEXT --tokens N\n\n"
              "Prints the prompt and what follows, whole characters as they come; bytes that are no UTF-8 as "
              "U+FFFD.\n"
              "Up to n tokens (model.seq_len) each new one costs one row of each spatial matrix; past n the "
              "window\n"
              "slides, see --slide.\n\n" +
              flag_help(kGenerateFlags),
          .run = run_generate};
}

}  // namespace sluice::cli
