#include "trainer/study/speed_numbers.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>

#include "trainer/study/numbers.h"
#include "trainer/train/errors.h"

namespace sluice::study {
namespace {

/// What tells curves apart, in the order in which a label names it.
using Traits = std::array<std::string, 8>;

/// A family's label without the settings that other columns hold: "gmlp, parallel.sp=2" is "gmlp".
std::string core_of(const std::string& family) {
  std::string out;
  for (std::size_t at = 0; at <= family.size();) {
    const std::size_t end = std::min(family.find(", ", at), family.size());
    const std::string piece = family.substr(at, end - at);
    if (!piece.starts_with("parallel.")) out += (out.empty() ? "" : ", ") + piece;
    at = end + 2;
  }
  return out;
}

std::string shape_of(const SpeedCell& cell) {
  if (!(cell.sp > 1.0)) return "dp";
  const std::string mode = cell.sp_mode.empty() ? "" : " " + cell.sp_mode;
  if (!(cell.dp > 1.0)) return "sp" + mode;
  return fmt::format("dp x sp {:.0f}{}", cell.sp, mode);
}

constexpr std::size_t kFamily = 0;
constexpr std::size_t kZero = 6;

Traits traits_of(const SpeedCell& cell) {
  const double batch = cell.strong() ? cell.global_batch : cell.global_batch / cell.ranks;
  const std::string batch_name =
      std::isfinite(batch) ? fmt::format("batch {:.6g}{}", batch, cell.strong() ? "" : " a rank") : "";
  return {core_of(cell.family),
          cell.model,
          cell.device_model,
          cell.precision,
          std::isfinite(cell.seq_len) ? fmt::format("n {:.0f}", cell.seq_len) : "",
          batch_name,
          cell.zero > 0.0 ? fmt::format("ZeRO-{:.0f}", cell.zero) : "",
          shape_of(cell)};
}

/// Whether two cells are of one problem and model, so that one may be the other's base. Families of one model
/// differ in how they run it.
bool comparable(const SpeedCell& a, const SpeedCell& b) {
  const Traits x = traits_of(a);
  const Traits y = traits_of(b);
  const bool one_model = x[kFamily] == y[kFamily] || a.params == b.params;
  return a.mode == b.mode && one_model &&
         std::equal(x.begin() + kFamily + 1, x.begin() + kZero, y.begin() + kFamily + 1);
}

/// The cell of the fewest ranks; of several, one of the same family, of the same update (ZeRO) and whole
/// sequences first.
const SpeedCell& base_of(const SpeedCell& cell, const std::vector<SpeedCell>& cells) {
  const SpeedCell* base = &cell;
  const auto rank_of = [&](const SpeedCell& other) {
    const bool own = core_of(other.family) == core_of(cell.family);
    return std::array<double, 4>{other.ranks, own ? 0.0 : 1.0, other.zero == cell.zero ? 0.0 : 1.0,
                                 or_zero(other.sp)};
  };
  for (const auto& other : cells)
    if (other.measured() && comparable(cell, other) && rank_of(other) < rank_of(*base)) base = &other;
  return *base;
}

SpeedPoint point_of(const SpeedCell& cell, const SpeedCell& base) {
  SpeedPoint point{.cell = cell};
  const double p = cell.ranks / base.ranks;
  point.speed_up = cell.tokens_per_s / base.tokens_per_s;
  point.efficiency = point.speed_up / p;
  if (p > 1.0) point.serial = cell.strong() ? karp_flatt(point.speed_up, p) : gustafson(point.speed_up, p);
  return point;
}

/// Names each curve by the traits in which some differ. Batches of strong and weak curves always differ: they
/// are compared within a mode.
void label_curves(std::vector<SpeedCurve>& curves, const std::vector<Traits>& traits) {
  for (std::size_t c = 0; c < curves.size(); ++c)
    for (std::size_t t = 0; t < traits[c].size(); ++t) {
      bool differs = false;
      for (std::size_t other = 0; other < curves.size(); ++other)
        differs = differs || (curves[other].mode == curves[c].mode && traits[other][t] != traits[c][t]);
      if (differs && !traits[c][t].empty())
        curves[c].label += (curves[c].label.empty() ? "" : ", ") + traits[c][t];
    }
}

}  // namespace

double SpeedCell::compute_s() const {
  if (std::isfinite(forward_s) || std::isfinite(backward_s))
    return or_zero(forward_s) + or_zero(backward_s) + or_zero(optimizer_s);
  return step_s - or_zero(comm_exposed_s) - or_zero(data_wait_s);
}

double SpeedCell::other_s() const {
  return std::max(step_s - compute_s() - or_zero(comm_exposed_s) - or_zero(data_wait_s), 0.0);
}

double SpeedCell::rank_spread() const { return (rank_step_s_max - rank_step_s_min) / rank_step_s_max; }

double karp_flatt(double speed_up, double ranks) {
  return (1.0 / speed_up - 1.0 / ranks) / (1.0 - 1.0 / ranks);
}

double gustafson(double speed_up, double ranks) { return (ranks - speed_up) / (ranks - 1.0); }

std::vector<SpeedCell> speed_cells(const Table& table) {
  std::vector<SpeedCell> cells;
  for (std::size_t row = 0; row < table.rows.size(); ++row) {
    const auto number = [&](const char* column) { return table.number(row, column); };
    const auto text = [&](const char* column) { return table.text(row, column); };
    SpeedCell cell{.family = text("family"),
                   .model = text("model"),
                   .mode = text("mode"),
                   .device_model = text("device_model"),
                   .sp_mode = text("sp_mode"),
                   .precision = text("precision"),
                   .run = text("run"),
                   .reason = text("reason"),
                   .ranks = number("ranks"),
                   .dp = number("dp"),
                   .sp = number("sp"),
                   .zero = number("zero"),
                   .seq_len = number("seq_len"),
                   .global_batch = number("global_batch"),
                   .micro_batch = number("micro_batch"),
                   .params = number("params"),
                   .tokens_per_s = number("tokens_per_s"),
                   .tokens_per_s_low = number("tokens_per_s_low"),
                   .tokens_per_s_high = number("tokens_per_s_high"),
                   .step_s = number("step_s"),
                   .forward_s = number("forward_s"),
                   .backward_s = number("backward_s"),
                   .comm_exposed_s = number("comm_exposed_s"),
                   .data_wait_s = number("data_wait_s"),
                   .optimizer_s = number("optimizer_s"),
                   .mfu = number("mfu"),
                   .hfu = number("hfu"),
                   .power_w = number("power_w"),
                   .energy_per_token_j = number("energy_per_token_j"),
                   .peak_memory_bytes = number("peak_memory_bytes"),
                   .rank_step_s_min = number("rank_step_s_min"),
                   .rank_step_s_max = number("rank_step_s_max"),
                   .predicted_step_s = number("predicted_step_s"),
                   .predicted_memory_bytes = number("predicted_memory_bytes")};
    if (cell.mode != "strong" && cell.mode != "weak")
      throw train::InputError(
          fmt::format("{}: '{}': must be strong or weak", table.place(row, "mode"), cell.mode));
    cells.push_back(std::move(cell));
  }
  return cells;
}

std::vector<SpeedCurve> speed_curves(const std::vector<SpeedCell>& cells) {
  std::vector<SpeedCurve> curves;
  std::vector<Traits> traits;
  for (const auto& cell : cells) {
    if (!cell.measured() || !(cell.ranks >= 1.0)) continue;
    const Traits own = traits_of(cell);
    std::size_t c = 0;
    while (c < curves.size() && (curves[c].mode != cell.mode || traits[c] != own)) ++c;
    if (c == curves.size()) {
      curves.push_back({.label = {}, .mode = cell.mode, .points = {}});
      traits.push_back(own);
    }
    curves[c].points.push_back(point_of(cell, base_of(cell, cells)));
  }
  label_curves(curves, traits);
  for (auto& curve : curves) {
    std::ranges::stable_sort(curve.points, {}, [](const SpeedPoint& point) { return point.cell.ranks; });
    const SpeedCell& first = curve.points.front().cell;
    const SpeedCell& base = base_of(first, cells);
    if (base.ranks < first.ranks) {
      SpeedPoint point = point_of(base, base);
      point.borrowed = true;
      curve.points.insert(curve.points.begin(), std::move(point));
    }
  }
  return curves;
}

}  // namespace sluice::study
