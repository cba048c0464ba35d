#include <fmt/format.h>

#include <cstdio>
#include <filesystem>

#include "trainer/cli/arguments.h"
#include "trainer/cli/command.h"
#include "trainer/study/report.h"
#include "trainer/train/files.h"

namespace sluice::cli {
namespace {

const std::vector<Flag> kFlags = {
    {.name = "--out", .value_name = "FILE", .help = "the page to write; default RUN/report.html"}};

int run(const std::vector<std::string>& words, parallel::Communicator&) {
  const Arguments arguments(kFlags, words, "RUN");
  const std::filesystem::path directory = arguments.positional().front();
  const std::string page = study::report_html(directory);
  const auto file =
      arguments.has("--out") ? std::filesystem::path(arguments.text("--out")) : directory / "report.html";
  train::replace_file(file, page);
  fmt::print("{}\n", file.string());
  return kDone;
}

}  // namespace

Command report_command() {
  return {
      .name = "report",
      .summary = "write a run's report: one HTML page that opens offline",
      .help =
          "  sluice report RUN [--out FILE]\n\n"
          "Loss against tokens, tokens/s, where the time went, settings; with RUN/sample.txt a sample, with\n"
          "RUN/eval.json (sluice eval --json) the evaluation. The charts are drawn by gnuplot.\n\n" +
          flag_help(kFlags),
      .run = run};
}

}  // namespace sluice::cli
