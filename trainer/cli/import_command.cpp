#include <fmt/format.h>
#include <fmt/ranges.h>

#include <cstdint>
#include <limits>
#include <memory>

#include "dataio/corpus.h"
#include "dataio/tokenizer.h"
#include "trainer/cli/arguments.h"
#include "trainer/cli/command.h"
#include "trainer/cli/option_table.h"
#include "trainer/cli/version.h"
#include "trainer/train/checkpoint.h"
#include "trainer/train/errors.h"
#include "trainer/train/import_export.h"

namespace sluice::cli {
namespace {

constexpr std::int64_t kMostIds = std::numeric_limits<std::int32_t>::max();
constexpr const char* kExternalPrefix = "external:";

const std::vector<Flag> kImportFlags = {
    {.name = "--from",
     .value_name = "LAYOUT",
     .help = "whose names and shapes the file has",
     .required = true},
    {.name = "--model",
     .value_name = "FILE",
     .help = "settings file whose [model] says what the tensors are parameters of",
     .required = true},
    {.name = "--out", .value_name = "DIR", .help = "checkpoint to make; must not exist", .required = true},
    {.name = "--corpus", .value_name = "DIR", .help = "the model's tokenizer is that of this corpus"},
    {.name = "--tokenizer",
     .value_name = "external:NAME",
     .help = "instead of --corpus: known by name alone, as prepare --tokens has it"},
    {.name = "--vocabulary",
     .value_name = "V",
     .help = "with --tokenizer: number of its ids; default: rows of the file's embedding"},
    {.name = "--eos",
     .value_name = "ID",
     .help = "with --tokenizer: the id that ends documents; default: none does"}};

/// What of a call does not go together; read before any file is.
void check_flags(const Arguments& arguments) {
  std::vector<std::string> faults;
  const bool corpus = arguments.has("--corpus");
  if (corpus == arguments.has("--tokenizer"))
    faults.emplace_back(
        "--corpus: the model's tokenizer, or instead --tokenizer external:NAME; one is needed");
  for (const char* flag : {"--vocabulary", "--eos"}) {
    if (corpus && arguments.has(flag)) faults.push_back(fmt::format("{}: is that of --corpus", flag));
  }
  const auto& tokenizer = arguments.text("--tokenizer");
  if (arguments.has("--tokenizer") &&
      (!tokenizer.starts_with(kExternalPrefix) || tokenizer == kExternalPrefix)) {
    faults.push_back(
        fmt::format("--tokenizer = {}: must be external:NAME; give a corpus of another tokenizer by --corpus",
                    tokenizer));
  }
  if (!faults.empty()) throw train::InputError(std::move(faults));
}

std::unique_ptr<dataio::Tokenizer> tokenizer_of(const Arguments& arguments,
                                                const train::SafetensorsFile& file,
                                                const train::Layout& layout) {
  if (arguments.has("--corpus"))
    return dataio::load_tokenizer(dataio::Corpus::open(arguments.text("--corpus")).directory());
  std::optional<std::int64_t> vocabulary = train::stored_vocabulary(file, layout);
  if (arguments.has("--vocabulary")) vocabulary = arguments.integer("--vocabulary", 1, kMostIds);
  if (!vocabulary || *vocabulary < 1) {
    throw train::InputError(
        fmt::format("{}: no embedding of the layout {} in it, whose rows tell the vocabulary; is --from "
                    "right? (else give "
                    "--vocabulary)",
                    arguments.positional().front(), layout.name));
  }
  const std::int64_t end =
      arguments.has("--eos") ? arguments.integer("--eos", 0, *vocabulary - 1) : dataio::kNoEndOfDocument;
  return dataio::make_external_tokenizer(
      arguments.text("--tokenizer").substr(std::string(kExternalPrefix).size()), *vocabulary,
      static_cast<std::int32_t>(end));
}

int run_import(const std::vector<std::string>& words, parallel::Communicator&) {
  const Arguments arguments(kImportFlags, words, "FILE");
  const std::string from = arguments.choice("--from", train::layout_names());
  check_flags(arguments);
  const std::string& path = arguments.positional().front();
  const std::string settings = arguments.text("--model");
  const model::ModelOptions options = parse_model_options(read_model_file(settings), settings);
  const train::SafetensorsFile file(path);
  std::vector<std::string> names;
  for (const auto& tensor : file.tensors()) names.push_back(tensor.name);
  const train::Layout& layout = train::guess_layout(from, names);
  const auto tokenizer = tokenizer_of(arguments, file, layout);
  train::Replica replica(options, tokenizer->vocabulary_size(), train::exact_type(file),
                         train::ReplicaUse::kInference);
  train::import_weights(file, layout, replica);
  train::CheckpointInfo info;
  info.model = options;
  info.vocabulary_size = tokenizer->vocabulary_size();
  info.device = "cpu";
  info.build = version_text();
  train::write_weights(arguments.text("--out"), info, replica.layout(), replica.parameters(), *tokenizer);
  fmt::print("{}: {} parameters from {} ({})\n", arguments.text("--out"), replica.parameter_count(), path,
             layout.name);
  return kDone;
}

}  // namespace

Command import_command() {
  return {
      .name = "import",
      .summary = "make a checkpoint of another program's weights",
      .help = fmt::format(
          "  sluice import --from LAYOUT FILE.safetensors --model FILE.ini --out DIR --corpus DIR\n"
          "  sluice import --from LAYOUT FILE.safetensors --model FILE.ini --out DIR --tokenizer "
          "external:NAME "
          "[--eos ID]\n\n"
          "LAYOUT is one of {}.\n"
          "g-mlp-pytorch reads the names of all its versions; the other one is that of versions 0.0.x, whose "
          "spatial weights\n"
          "are those of a Conv1d. gpt2 is Hugging Face's, with or without \"transformer.\" before its names. "
          "Everything that\n"
          "does not fit is named: settings that the layout cannot express, tensors missing, not expected or "
          "of another\n"
          "shape. The checkpoint has no optimizer's state: eval, generate and export take it, and "
          "train.init_from for a start.\n\n{}",
          fmt::join(train::layout_names(), ", "), flag_help(kImportFlags)),
      .run = run_import};
}

}  // namespace sluice::cli
