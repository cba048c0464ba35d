#include <fmt/format.h>

#include <cstdio>
#include <map>

#include "dataio/prepare.h"
#include "dataio/token_import.h"
#include "trainer/cli/arguments.h"
#include "trainer/cli/command.h"
#include "trainer/cli/terminal.h"
#include "trainer/train/errors.h"

namespace sluice::cli {
namespace {

constexpr std::int64_t kMostShardTokens = std::int64_t{1} << 40;
constexpr std::int64_t kMostJobs = 4096;

const std::vector<Flag> kPrepareFlags = {
    {.name = "--input",
     .value_name = "FILE|DIR",
     .help = "text to read; directories are taken recursively in sorted order",
     .many = true},
    {.name = "--tokens",
     .value_name = "FORMAT FILE",
     .help = "instead of text, ids that are there already: llmc, raw, npy or megatron, and files of it",
     .many = true},
    {.name = "--valid",
     .value_name = "FILE",
     .help = "with --tokens: files of the validation part; default: the last --valid-fraction of the ids",
     .many = true},
    {.name = "--dtype",
     .value_name = "TYPE",
     .help = "with --tokens: uint16 and its like, little endian; only raw ids need it"},
    {.name = "--vocab-size",
     .value_name = "V",
     .help = "with --tokens: number of ids of the tokenizer, 0 ... V - 1"},
    {.name = "--eos",
     .value_name = "ID",
     .help = "with --tokens: the id that ends documents; default: none does"},
    {.name = "--tokenizer",
     .value_name = "KIND",
     .help = "bytes, chars, sentencepiece:MODEL, or train-sentencepiece:VOCAB; with --tokens external:NAME",
     .default_value = "bytes"},
    {.name = "--mask-token",
     .help = "the tokenizer has a mask token, for train.objective = mlm: one more id where it has none; "
             "train-sentencepiece: one of VOCAB"},
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
  if (arguments.has("--mask-token")) options.mask_token = dataio::MaskToken::kAdd;
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

/// What of a call speaks of text where it gives ids, or the other way round.
std::vector<std::string> faults_of(const Arguments& arguments) {
  std::vector<std::string> faults;
  const bool tokens = arguments.has("--tokens");
  const auto refuse = [&](const std::string& flag, const char* reason) {
    if (arguments.has(flag)) faults.push_back(flag + ": " + reason);
  };
  if (tokens == arguments.has("--input")) {
    faults.emplace_back(
        "--input: text files, or instead --tokens with ids; exactly one of the two is needed");
  }
  if (!tokens) {
    for (const char* flag : {"--valid", "--dtype", "--vocab-size", "--eos"}) {
      refuse(flag, "is for ids that are there already (--tokens)");
    }
    return faults;
  }
  for (const char* flag : {"--documents", "--split", "--jobs", "--mask-token"})
    refuse(flag, "is for text (--input)");
  if (!arguments.has("--vocab-size")) faults.emplace_back("--vocab-size: must be given with --tokens");
  if (arguments.has("--valid")) refuse("--valid-fraction", "the validation part is that of --valid");
  return faults;
}

dataio::TokenImport import_of(const Arguments& arguments) {
  constexpr std::int64_t kMostIds = std::int64_t{1} << 40;  // bounds are dataio's
  dataio::TokenImport import;
  auto words = arguments.list("--tokens");
  const std::map<std::string, dataio::TokenFormat> formats = {{"llmc", dataio::TokenFormat::kLlmc},
                                                              {"raw", dataio::TokenFormat::kRaw},
                                                              {"npy", dataio::TokenFormat::kNpy},
                                                              {"megatron", dataio::TokenFormat::kMegatron}};
  const auto format = formats.find(words.front());
  if (format == formats.end()) {
    throw train::InputError(fmt::format(
        "--tokens: the format '{}' is not known; allowed are llmc, raw, npy, megatron, before the "
        "files",
        words.front()));
  }
  import.format = format->second;
  import.train.assign(words.begin() + 1, words.end());
  for (const auto& file : arguments.list("--valid")) import.valid.emplace_back(file);
  import.dtype = arguments.text("--dtype");
  import.vocabulary_size = arguments.integer("--vocab-size", 0, kMostIds);
  if (arguments.has("--eos")) import.end_of_document = arguments.integer("--eos", 0, kMostIds);
  if (arguments.has("--tokenizer")) import.tokenizer = arguments.text("--tokenizer");
  import.out = arguments.text("--out");
  import.shard_tokens = arguments.integer("--shard-tokens", 1, kMostShardTokens);
  import.valid_fraction = arguments.number("--valid-fraction", 0.0, 1.0);
  return import;
}

int run_prepare(const std::vector<std::string>& words, parallel::Communicator&) {
  const Arguments arguments(kPrepareFlags, words);
  auto faults = faults_of(arguments);
  if (!faults.empty()) throw train::InputError(std::move(faults));
  dataio::PrepareResult result;
  {
    ProgressBar bar;
    const auto show = [&](const dataio::PrepareProgress& progress) {
      bar.update(progress.phase, progress.done_bytes, progress.total_bytes);
    };
    result = arguments.has("--tokens") ? dataio::import_tokens(import_of(arguments), show)
                                       : dataio::prepare(options_of(arguments), show);
  }
  fmt::print("{}: {} train and {} valid tokens of {} documents, {} bytes; vocabulary {}\n",
             arguments.text("--out"), full_count(result.train_tokens), full_count(result.valid_tokens),
             full_count(result.documents), full_count(result.input_bytes),
             full_count(result.vocabulary_size));
  return kDone;
}

}  // namespace

Command prepare_command() {
  return {.name = "prepare",
          .summary = "text (or token ids) in, corpus out: tokens in HDF5 shards with digests",
          .help =
              "  sluice prepare --input FILE|DIR... --tokenizer KIND --out DIR [...]\n"
              "  sluice prepare --tokens llmc|raw|npy|megatron FILE... [--valid FILE...] [--dtype TYPE] "
              "--vocab-size V [--eos ID]\n"
              "                 [--tokenizer external:NAME] --out DIR [...]\n\n" +
              flag_help(kPrepareFlags),
          .run = run_prepare};
}

}  // namespace sluice::cli
