#include "trainer/study/report_loss.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>
#include <set>
#include <tuple>

#include "trainer/study/fit/fit_tables.h"
#include "trainer/study/numbers.h"

namespace sluice::study {
namespace {

/// A colour for each family, and within it the larger the model the fuller the colour.
class Palette {
 public:
  explicit Palette(const std::vector<StudyEntry>& runs) {
    for (const auto& run : runs) sizes_[run.family].insert(run.params);
  }
  [[nodiscard]] int colour(const std::string& family) const {
    return static_cast<int>(std::distance(sizes_.begin(), sizes_.find(family))) % kSeriesColours + 1;
  }
  [[nodiscard]] int tint(const StudyEntry& run) const {
    const auto& sizes = sizes_.at(run.family);
    return std::min(static_cast<int>(std::distance(sizes.find(run.params), sizes.end())) - 1, kPalestTint);
  }

 private:
  std::map<std::string, std::set<double>> sizes_;
};

bool has_metrics(const StudyEntry& run) {
  return std::filesystem::is_regular_file(run.directory / "metrics.jsonl");
}

/// Seconds that a branch's trunk took up to the step at which the branch begins.
double seconds_before(const StudyEntry& run, const Metrics& metrics, const StudyFiles& study) {
  const auto trunk = std::ranges::find(study.runs, run.parent, &StudyEntry::id);
  if (run.parent.empty() || trunk == study.runs.end() || metrics.train.empty() || !has_metrics(*trunk))
    return 0.0;
  return seconds_until(read_metrics(trunk->directory / "metrics.jsonl"), metrics.train.front().step - 1);
}

std::vector<RunCurve> curves_of(const StudyFiles& study) {
  std::vector<StudyEntry> shown;
  for (const bool tuning : {false, true}) {
    if (!shown.empty()) break;
    for (const auto& run : study.runs)
      if ((run.role == "tuning") == tuning && has_metrics(run)) shown.push_back(run);
  }
  const Palette palette(shown);
  std::ranges::stable_sort(shown, {},
                           [](const StudyEntry& run) { return std::tuple(run.family, run.params); });
  std::vector<RunCurve> curves;
  for (const auto& run : shown) {
    const Metrics metrics = read_metrics(run.directory / "metrics.jsonl");
    RunCurve curve = run_curve(metrics, run.family + (run.model.empty() ? "" : " " + run.model),
                               seconds_before(run, metrics, study));
    curve.colour = palette.colour(run.family);
    curve.tint = palette.tint(run);
    curves.push_back(std::move(curve));
  }
  return curves;
}

Grid loss_table(const std::vector<LossCell>& cells) {
  Grid grid{.name = "losses",
            .columns = {{"family", Align::kText},
                        {"size", Align::kText},
                        {"N"},
                        {"D (tokens)"},
                        {"C (FLOPs)"},
                        {"epochs"},
                        {"learning rate"},
                        {"seeds"},
                        {"loss (nats)"},
                        {"spread of seeds"},
                        {"perplexity"},
                        {"in fits", Align::kText}},
            .rows = {}};
  for (const auto& cell : cells)
    grid.rows.push_back({cell.family, cell.model, counted(cell.params), counted(cell.tokens),
                         significant(cell.flops, 3), significant(cell.epochs, 3), significant(cell.lr, 3),
                         std::to_string(cell.losses.size()), fixed(cell.mean(), 4), fixed(cell.spread(), 4),
                         significant(std::exp(cell.mean()), 4),
                         cell.use.empty() ? "yes" : "no: " + cell.use});
  return grid;
}

bool enters(const std::string& use) { return use.empty() || use == "fit"; }

}  // namespace

double LossCell::mean() const {
  return std::accumulate(losses.begin(), losses.end(), 0.0) / static_cast<double>(losses.size());
}

double LossCell::spread() const {
  if (losses.size() < 2) return std::numeric_limits<double>::quiet_NaN();
  return *std::ranges::max_element(losses) - *std::ranges::min_element(losses);
}

std::vector<LossCell> loss_cells(const Table& points) {
  using Key = std::tuple<std::string, double, double, std::string, std::string, std::string>;
  std::map<Key, LossCell> cells;
  for (std::size_t row = 0; row < points.rows.size(); ++row) {
    const std::string use = points.text(row, "use");
    const double loss = points.number(row, "loss");
    if (points.text(row, "role") == "tuning" || use == "tuning" || !std::isfinite(loss)) continue;
    const double params = points.number(row, "params");
    const double tokens = points.number(row, "tokens");
    const Key key{points.text(row, "family"), params, tokens,
                  points.text(row, "lr"),     use,    points.text(row, "model")};
    auto& cell = cells[key];
    cell.family = points.text(row, "family");
    cell.model = points.text(row, "model");
    cell.use = enters(use) ? "" : use;
    cell.params = params;
    cell.tokens = tokens;
    cell.flops = points.number(row, "flops");
    cell.epochs = points.number(row, "epochs");
    cell.lr = points.number(row, "lr");
    cell.losses.push_back(loss);
  }
  std::vector<LossCell> list;
  for (auto& [key, cell] : cells) list.push_back(std::move(cell));
  return list;
}

KeyNumbers loss_key_numbers(const StudyFiles& study) {
  KeyNumbers key;
  const auto cells = study.points ? loss_cells(*study.points) : std::vector<LossCell>{};
  const auto best = std::ranges::min_element(cells, {}, &LossCell::mean);
  if (best != cells.end())
    key.numbers.push_back({"least loss", fixed(best->mean(), 4),
                           fmt::format("nats per token: {}, {} parameters, {} tokens", best->family,
                                       counted(best->params), counted(best->tokens))});
  const auto finished = std::ranges::count_if(study.runs, &StudyEntry::finished);
  key.numbers.push_back({"runs", fmt::format("{} of {}", finished, study.runs.size()), "are done"});
  double flops = 0.0;
  if (study.points)
    for (std::size_t row = 0; row < study.points->rows.size(); ++row)
      if (const double one = study.points->number(row, "flops"); std::isfinite(one)) flops += one;
  if (flops > 0.0)
    key.numbers.push_back({"compute", significant(flops, 3),
                           "useful FLOPs of all finished runs; a branch counts its trunk again"});
  return key;
}

std::optional<Analysis> analysis_of(const StudyFiles& study) {
  if (!study.points || !why_no_fits().empty()) return std::nullopt;
  const Table& points = *study.points;
  for (std::size_t row = 0; row < points.rows.size(); ++row)
    if (enters(points.text(row, "use"))) return analyse(points_of(points));
  return std::nullopt;
}

std::vector<Part> loss_parts(const StudyFiles& study, const std::vector<Overlay>& overlays) {
  std::vector<Part> parts;
  const auto append = [&](std::vector<Part> more) {
    for (auto& part : more) parts.push_back(std::move(part));
  };
  auto curves = curve_parts(curves_of(study), overlays);
  if (!curves.empty()) parts.emplace_back(Heading{"Loss curves"});
  append(std::move(curves));
  const auto cells = study.points ? loss_cells(*study.points) : std::vector<LossCell>{};
  if (!cells.empty()) {
    append({Heading{"Final losses"}, loss_table(cells),
            Paragraph{
                "Over the whole valid split, the mean over seeds; spread: largest less smallest. C: useful "
                "training FLOPs, those of the head and of products over positions included."}});
  }
  auto analysis = analysis_of(study);
  append(rate_parts(study, analysis ? &*analysis : nullptr));
  if (!analysis) {
    const std::string missing = why_no_fits();
    append({Heading{"Fits"},
            Paragraph{missing.empty() ? "No run's loss may enter a fit yet." : missing, Tone::kWarning}});
    return parts;
  }
  if (study.rates) analysis->rate_sweeps.clear();  // shown above, with what is unfinished
  append(fit_parts(*analysis));
  return parts;
}

}  // namespace sluice::study
