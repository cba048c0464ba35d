#include <fmt/format.h>

#include <cstdio>
#include <filesystem>

#include "trainer/cli/arguments.h"
#include "trainer/cli/command.h"
#include "trainer/cli/save_page.h"
#include "trainer/study/report.h"
#include "trainer/study/report_compare.h"
#include "trainer/study/report_runs.h"
#include "trainer/study/report_study.h"
#include "trainer/train/errors.h"

namespace sluice::cli {
namespace {

namespace fs = std::filesystem;

const std::vector<Flag> kReportFlags = {
    {.name = "--out",
     .value_name = "FILE.html",
     .help = "the page to write; default report.html in the run or study, of several in this directory"},
    {.name = "--compare", .help = "two runs or two studies side by side: where their losses part"},
    {.name = "--overlay",
     .value_name = "CURVE.csv",
     .help = "curves of other programs (columns tokens,loss), drawn with the losses",
     .many = true}};

study::Page page_of(const std::vector<fs::path>& places, const Arguments& arguments) {
  std::vector<study::Overlay> overlays;
  for (const auto& file : arguments.list("--overlay")) overlays.push_back(study::read_overlay(file));
  if (arguments.has("--compare")) {
    if (places.size() != 2)
      throw train::InputError(
          fmt::format("--compare: takes two runs or two studies, {} given", places.size()));
    return study::compare_page(places[0], places[1], overlays);
  }
  if (places.size() > 1) return study::runs_page(places, overlays);
  if (study::is_study(places.front())) return study::study_page(places.front(), overlays);
  return study::run_page(places.front(), overlays);
}

int run_report(const std::vector<std::string>& words, parallel::Communicator&) {
  const Arguments arguments(kReportFlags, words, "RUN|STUDY...");
  const std::vector<fs::path> places(arguments.positional().begin(), arguments.positional().end());
  fs::path file = places.size() > 1 ? fs::path("report.html") : places.front() / "report.html";
  if (arguments.has("--out")) file = arguments.text("--out");
  save_page(page_of(places, arguments), file);
  fmt::print("{}\n", file.string());
  return kDone;
}

}  // namespace

Command report_command() {
  return {
      .name = "report",
      .summary = "write the report of runs and studies: a page that opens offline",
      .help =
          "  sluice report RUN|STUDY... [--out FILE.html] [--overlay CURVE.csv...]\n"
          "  sluice report A B --compare [--out FILE.html]\n\n"
          "Of a run: loss against tokens, tokens/s, where the time went, settings; with RUN/sample.txt a "
          "sample,\n"
          "with RUN/eval.json (sluice eval --json) the evaluation. Of a study (sluice study): speed-up and\n"
          "efficiency with causes and predictions, or losses with their fits, and where all numbers come "
          "from.\n"
          "Of several: their curves over one another. One HTML file, the same as Markdown (FILE.md), and "
          "all\n"
          "data as CSV with each chart as SVG in the folder FILE. The charts are drawn by gnuplot.\n\n" +
          flag_help(kReportFlags),
      .run = run_report};
}

}  // namespace sluice::cli
