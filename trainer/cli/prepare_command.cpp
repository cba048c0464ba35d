#include <fmt/format.h>

#include <cstdio>

#include "dataio/prepare.h"
#include "trainer/cli/arguments.h"
#include "trainer/cli/command.h"
#include "trainer/cli/terminal.h"

namespace sluice::cli {
namespace {

constexpr std::int64_t kMostShardTokens = std::int64_t{1} << 40;
constexpr std::int64_t kMostJobs = 4096;

const std::vector<Flag> kFlags = {
    {.name = "--input",
     .value_name = "FILE|DIR",
     .help = "text to read; directories are taken recursively in sorted order",
     .required = true,
     .many = true},
    {.name = "--tokenizer",
     .value_name = "KIND",
     .help = "bytes, chars, sentencepiece:MODEL, or train-sentencepiece:VOCAB",
     .default_value = "bytes"},
    {.name = "--out",
     .value_name = "DIR",
     .help = "corpus directory to make; must not exist",
     .required = true},
    {.name = "--documents",
     .value_name = "KIND",
     .help = "what a document is: files, blank-line (a paragraph), or json-lines (a record's \"text\")",
     .default_value = "files"},
    {.name = "--split",
     .value_name = "KIND",
     .help = "validation part: contiguous (the last of the tokens) or documents (chosen by hash)",
     .default_value = "contiguous"},
    {.name = "--valid-fraction",
     .value_name = "F",
     .help = "share of the validation part, 0 ... 1",
     .default_value = "0.05"},
    {.name = "--shard-tokens",
     .value_name = "N",
     .help = "tokens of a shard file at most",
     .default_value = "134217728"},
    {.name = "--jobs",
     .value_name = "J",
     .help = "threads; 0: one for each core. The output is the same for any number",
     .default_value = "0"}};

dataio::PrepareOptions options_of(const Arguments& arguments) {
  dataio::PrepareOptions options;
  for (const auto& input : arguments.list("--input")) options.inputs.emplace_back(input);
  options.tokenizer = arguments.text("--tokenizer");
  options.out = arguments.text("--out");
  options.shard_tokens = arguments.integer("--shard-tokens", 1, kMostShardTokens);
  options.valid_fraction = arguments.number("--valid-fraction", 0.0, 1.0);
  options.split = arguments.choice("--split", {"contiguous", "documents"}) == "contiguous"
                      ? dataio::SplitKind::kContiguous
                      : dataio::SplitKind::kDocuments;
  const auto documents = arguments.choice("--documents", {"files", "blank-line", "json-lines"});
  options.documents = documents == "files"        ? dataio::DocumentKind::kFiles
                      : documents == "blank-line" ? dataio::DocumentKind::kBlankLine
                                                  : dataio::DocumentKind::kJsonLines;
  options.jobs = arguments.integer("--jobs", 0, kMostJobs);
  return options;
}

int run(const std::vector<std::string>& words, parallel::Communicator&) {
  const auto options = options_of(Arguments(kFlags, words));
  dataio::PrepareResult result;
  {
    ProgressBar bar;
    result = dataio::prepare(options, [&](const dataio::PrepareProgress& progress) {
      bar.update(progress.phase, progress.done_bytes, progress.total_bytes);
    });
  }
  fmt::print("{}: {} train and {} valid tokens of {} documents, {} bytes; vocabulary {}\n",
             options.out.string(), full_count(result.train_tokens), full_count(result.valid_tokens),
             full_count(result.documents), full_count(result.input_bytes),
             full_count(result.vocabulary_size));
  return kDone;
}

}  // namespace

Command prepare_command() {
  return {
      .name = "prepare",
      .summary = "text in, corpus out: tokens in HDF5 shards with digests",
      .help = "  sluice prepare --input FILE|DIR... --tokenizer KIND --out DIR [...]\n\n" + flag_help(kFlags),
      .run = run};
}

}  // namespace sluice::cli
