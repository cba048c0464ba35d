#include "trainer/study/report_runs.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "trainer/study/curves.h"
#include "trainer/study/numbers.h"
#include "trainer/study/study_files.h"
#include "trainer/train/errors.h"

namespace sluice::study {
namespace {

namespace fs = std::filesystem;

/// The directories of all runs; faults are gathered.
std::vector<fs::path> run_directories(const std::vector<fs::path>& directories) {
  std::vector<fs::path> runs;
  std::vector<std::string> faults;
  for (const auto& directory : directories) {
    if (is_study(directory)) {
      for (const auto& run : read_study(directory).runs)
        if (fs::is_regular_file(run.directory / "metrics.jsonl")) runs.push_back(run.directory);
    } else if (fs::is_regular_file(directory / "metrics.jsonl")) {
      runs.push_back(directory);
    } else {
      faults.push_back(
          fmt::format("{}: neither a run nor a study directory: it has no metrics.jsonl and no study.json",
                      directory.string()));
    }
  }
  if (!faults.empty()) throw train::InputError(faults);
  if (runs.empty()) throw train::InputError("no run of these studies has begun");
  return runs;
}

std::string parent_name(const fs::path& directory) {
  return fs::weakly_canonical(directory).parent_path().filename().string();
}

/// Loss of sluice eval over the whole split, else of the last validation; NaN where there is neither.
double valid_loss(const RunFiles& run) {
  const double evaluated = run.evaluated("loss");
  if (std::isfinite(evaluated)) return evaluated;
  return run.metrics.valid.empty() ? std::nan("") : run.metrics.valid.back().loss;
}

double train_loss(const Metrics& metrics) {
  std::vector<double> losses;
  for (const auto& record : metrics.train) losses.push_back(record.loss);
  return losses.empty() ? std::nan("") : smoothed(losses, smoothing_steps(losses.size())).back();
}

template <class Member>
double median_in(const Metrics& metrics, Member member) {
  std::vector<double> values;
  for (const auto& record : metrics.train) values.push_back(record.*member);
  return median_of(values);
}

}  // namespace

std::vector<NamedRun> read_runs(const std::vector<fs::path>& directories) {
  const auto paths = run_directories(directories);
  std::vector<NamedRun> runs;
  for (const auto& path : paths) {
    NamedRun run{.name = {}, .files = read_run(path), .origin = {}};
    run.name = run.files.name;
    runs.push_back(std::move(run));
  }
  std::vector<std::string> names;
  for (const auto& run : runs) names.push_back(run.name);
  for (std::size_t r = 0; r < runs.size(); ++r) {
    if (std::ranges::count(names, names[r]) > 1) runs[r].name = parent_name(paths[r]) + "/" + names[r];
    runs[r].origin = origin_of(paths[r], runs[r].name);
  }
  return runs;
}

std::vector<RunCurve> curves_of(const std::vector<NamedRun>& runs) {
  std::vector<RunCurve> curves;
  for (std::size_t r = 0; r < runs.size(); ++r) {
    RunCurve curve = run_curve(runs[r].files.metrics, runs[r].name);
    const int place = static_cast<int>(r);
    curve.colour = place % kSeriesColours + 1;
    curve.tint = std::min(place / kSeriesColours, kPalestTint);
    curves.push_back(std::move(curve));
  }
  return curves;
}

Grid final_table(const std::vector<NamedRun>& runs) {
  Grid grid{.name = "final-numbers",
            .columns = {{"run", Align::kText},
                        {"steps"},
                        {"tokens"},
                        {"train loss"},
                        {"valid loss"},
                        {"perplexity"},
                        {"bits per byte"},
                        {"tokens/s"},
                        {"MFU"},
                        {"time in steps"}},
            .rows = {}};
  for (const auto& [name, files, origin] : runs) {
    const auto& train = files.metrics.train;
    const double valid = valid_loss(files);
    grid.rows.push_back(
        {name, train.empty() ? fixed(NAN, 0) : grouped(static_cast<double>(train.back().step)),
         train.empty() ? fixed(NAN, 0) : counted(static_cast<double>(train.back().tokens)),
         fixed(train_loss(files.metrics), 4), fixed(valid, 4), significant(std::exp(valid), 4),
         fixed(files.evaluated("bits_per_byte"), 4),
         counted(median_in(files.metrics, &TrainRecord::tokens_per_s)),
         percent(median_in(files.metrics, &TrainRecord::mfu)),
         train.empty() ? fixed(NAN, 0) : duration(seconds_until(files.metrics, train.back().step))});
  }
  return grid;
}

Page runs_page(const std::vector<fs::path>& directories, const std::vector<Overlay>& overlays) {
  const auto runs = read_runs(directories);
  Page page{.title = fmt::format("{} runs", runs.size()), .subtitle = {}};
  std::vector<Origin> origins;
  for (const auto& run : runs) {
    page.subtitle += (page.subtitle.empty() ? "" : " · ") + run.name;
    origins.push_back(run.origin);
  }
  page.add(Heading{"Loss curves"});
  page.append(curve_parts(curves_of(runs), overlays));
  page.add(Heading{"Final numbers"});
  page.add(final_table(runs));
  page.add(
      Paragraph{"Losses in nats per token; valid: of sluice eval over the whole split, else of the last "
                "validation. Tokens/s and MFU: medians over steps."});
  page.append(origin_parts(origins));
  return page;
}

}  // namespace sluice::study
