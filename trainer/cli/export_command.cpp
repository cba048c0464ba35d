#include <fmt/format.h>
#include <fmt/ranges.h>

#include <filesystem>
#include <system_error>

#include "trainer/cli/arguments.h"
#include "trainer/cli/command.h"
#include "trainer/cli/open_checkpoint.h"
#include "trainer/train/errors.h"
#include "trainer/train/files.h"
#include "trainer/train/import_export.h"
#include "trainer/train/manifest.h"

namespace sluice::cli {
namespace {

const std::vector<Flag> kExportFlags = {
    {.name = "--checkpoint",
     .value_name = "DIR",
     .help = "a checkpoint, or a run: its newest good one",
     .required = true},
    {.name = "--to",
     .value_name = "LAYOUT",
     .help = "whose names and shapes the file gets",
     .required = true},
    {.name = "--out", .value_name = "FILE", .help = "safetensors file to write", .required = true}};

/// Under a temporary name first: nobody sees half a file.
void write(const std::filesystem::path& out, const std::vector<train::NamedTensor>& tensors,
           const std::string& layout, const model::ModelOptions& options) {
  const std::filesystem::path temporary = out.string() + std::string(train::kTemporarySuffix);
  try {
    train::write_safetensors(temporary, tensors,
                             {{"format", "pt"}, {"layout", layout}, {"model", train::model_text(options)}});
    std::filesystem::rename(temporary, out);
  } catch (const std::system_error& error) {
    throw train::InputError(fmt::format("--out {}: {}", out.string(), error.what()));
  }
}

int run_export(const std::vector<std::string>& words, parallel::Communicator& world) {
  const Arguments arguments(kExportFlags, words);
  const std::string to = arguments.choice("--to", train::layout_names());
  const auto checkpoint = open_checkpoint(arguments.text("--checkpoint"), world);
  const auto replica = train::load_replica(checkpoint, train::weights_type(checkpoint));
  const auto tensors = train::export_weights(*replica, train::find_layout(to));
  write(arguments.text("--out"), tensors, to, checkpoint.model);
  fmt::print("{}: {} tensors, {} parameters\n", arguments.text("--out"), tensors.size(),
             replica->parameter_count());
  return kDone;
}

}  // namespace

Command export_command() {
  return {.name = "export",
          .summary = "write a model's weights as another program reads them",
          .help = fmt::format("  sluice export --checkpoint DIR|RUN --to LAYOUT --out FILE.safetensors\n\n"
                              "LAYOUT is one of {}.\n"
                              "Settings of the model that the layout cannot express are named and refused. "
                              "The file's metadata say the layout and\n"
                              "the model's settings. `sluice import` reads it back, bit for bit.\n\n{}",
                              fmt::join(train::layout_names(), ", "), flag_help(kExportFlags)),
          .run = run_export};
}

}  // namespace sluice::cli
