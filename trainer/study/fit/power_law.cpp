#include "trainer/study/fit/power_law.h"

#include <algorithm>
#include <cmath>

namespace sluice::study {
namespace {

constexpr std::array<double, 5> kExponentStarts = {0.1, 0.2, 0.35, 0.6, 1.1};
constexpr std::array<double, 4> kFloorStarts = {0.1, 0.5, 0.8, 0.95};  // of the family's least loss
constexpr std::array<double, 2> kShareStarts = {0.3, 0.7};  // of the first term in what is above the floor
constexpr std::int64_t kStartIterations = 60;
constexpr std::int64_t kPolishIterations = 4000;

struct LossRange {
  double least = 0.0;
  double mean = 0.0;  ///< of the logarithms
};

std::vector<LossRange> loss_ranges(const PowerModel& model, const std::vector<Observation>& rows) {
  std::vector<LossRange> ranges;
  for (std::size_t f = 0; f < model.families; ++f) {
    double least = INFINITY;
    double sum = 0.0;
    double count = 0.0;
    for (const auto& row : rows) {
      if (row.family != f || row.weight == 0.0) continue;
      least = std::min(least, row.log_y);
      sum += row.log_y;
      count += 1.0;
    }
    ranges.push_back({least, count > 0.0 ? sum / count : 0.0});
  }
  return ranges;
}

std::vector<double> start_at(const PowerModel& model, const std::vector<LossRange>& ranges, double floor,
                             std::array<double, 2> exponents, std::array<double, 2> shares) {
  std::vector<double> start(model.size());
  for (std::size_t f = 0; f < model.families; ++f) {
    const double least = model.floor == Floor::kFitted ? floor * std::exp(ranges[f].least) : 0.0;
    const double above = std::max(std::exp(ranges[f].mean) - least, 1e-6 * std::exp(ranges[f].mean));
    if (model.floor == Floor::kFitted) start[model.floor_at(f)] = std::log(least);
    for (std::size_t t = 0; t < model.terms; ++t) {
      start[model.scale_at(t, f)] = std::log(above * shares[t]);
      start[model.exponent_at(t, f)] = model.parameter_of(exponents[t]);
    }
  }
  return start;
}

std::vector<std::vector<double>> starts_of(const PowerModel& model, const std::vector<Observation>& rows) {
  const auto ranges = loss_ranges(model, rows);
  // Without a floor a law of one term is a line in logarithms: one start leads to its only minimum.
  if (model.floor == Floor::kZero && model.terms == 1)
    return {start_at(model, ranges, 0.0, {0.2, 0.2}, {1.0, 0.0})};
  std::vector<std::vector<double>> starts;
  for (const double floor : kFloorStarts)
    for (const double first : kExponentStarts) {
      if (model.terms == 1) starts.push_back(start_at(model, ranges, floor, {first, first}, {1.0, 0.0}));
      for (const double second : kExponentStarts)
        for (const double share : kShareStarts)
          if (model.terms == 2)
            starts.push_back(start_at(model, ranges, floor, {first, second}, {share, 1.0 - share}));
    }
  return starts;
}

}  // namespace

std::size_t PowerModel::floor_at(std::size_t family) const { return family; }

std::size_t PowerModel::scale_at(std::size_t term, std::size_t family) const {
  return (floor == Floor::kFitted ? families : 0) + term * families + family;
}

std::size_t PowerModel::exponent_at(std::size_t term, std::size_t family) const {
  const std::size_t first = scale_at(terms, 0);
  return sharing == Sharing::kExponents ? first + term : first + term * families + family;
}

std::size_t PowerModel::size() const { return exponent_at(terms, 0); }

PowerModel::Exponent PowerModel::exponent(double parameter) const {
  if (floor == Floor::kZero) return {parameter, 1.0};
  const double range = std::log(kExponentHigh / kExponentLow);
  const double share = 1.0 / (1.0 + std::exp(-parameter));
  const double value = kExponentLow * std::exp(range * share);
  return {value, value * range * share * (1.0 - share)};
}

double PowerModel::parameter_of(double value) const {
  if (floor == Floor::kZero) return value;
  const double share = std::log(value / kExponentLow) / std::log(kExponentHigh / kExponentLow);
  return std::log(share / (1.0 - share));
}

Law PowerModel::law(const std::vector<double>& parameters, std::size_t family) const {
  Law law{.terms = terms};
  if (floor == Floor::kFitted) law.floor = std::exp(parameters[floor_at(family)]);
  for (std::size_t t = 0; t < terms; ++t) {
    law.exponent[t] = exponent(parameters[exponent_at(t, family)]).value;
    law.scale[t] = std::exp(parameters[scale_at(t, family)] + law.exponent[t] * centre[t]);
  }
  return law;
}

PowerValues::PowerValues(const PowerModel& model, const double* parameters)
    : model_(model), parameters_(parameters) {
  for (std::size_t p = model.exponent_at(0, 0); p < model.size(); ++p)
    exponents_.push_back(model.exponent(parameters[p]));
}

double PowerValues::log_value(const Observation& row, double* gradient) const {
  const std::size_t family = row.family;
  const bool has_floor = model_.floor == Floor::kFitted;
  const double floor = has_floor ? parameters_[model_.floor_at(family)] : -INFINITY;
  std::array<double, 2> logs = {-INFINITY, -INFINITY};
  double largest = floor;
  const auto exponent = [&](std::size_t t) {
    return exponents_[model_.exponent_at(t, family) - model_.exponent_at(0, 0)];
  };
  for (std::size_t t = 0; t < model_.terms; ++t) {
    logs[t] = parameters_[model_.scale_at(t, family)] - exponent(t).value * (row.log_x[t] - model_.centre[t]);
    largest = std::max(largest, logs[t]);
  }
  double sum = has_floor ? std::exp(floor - largest) : 0.0;
  for (std::size_t t = 0; t < model_.terms; ++t) sum += std::exp(logs[t] - largest);
  const double value = largest + std::log(sum);
  if (gradient == nullptr) return value;
  std::fill(gradient, gradient + model_.size(), 0.0);
  if (has_floor) gradient[model_.floor_at(family)] = std::exp(floor - value);
  for (std::size_t t = 0; t < model_.terms; ++t) {
    const double share = std::exp(logs[t] - value);
    gradient[model_.scale_at(t, family)] = share;
    gradient[model_.exponent_at(t, family)] = -share * exponent(t).slope * (row.log_x[t] - model_.centre[t]);
  }
  return value;
}

Robust robust(double residual, double huber) {
  const double scaled = residual / huber;
  const double size = std::abs(scaled);
  if (size <= 1.0) return {scaled, 1.0 / huber};
  const double root = std::sqrt(2.0 * size - 1.0);
  return {std::copysign(root, scaled), 1.0 / (huber * root)};
}

std::array<double, 2> centre_of(const std::vector<Observation>& rows) {
  std::array<double, 2> sums = {0.0, 0.0};
  for (const auto& row : rows)
    for (std::size_t t = 0; t < sums.size(); ++t) sums[t] += row.log_x[t];
  const double count = static_cast<double>(std::max<std::size_t>(rows.size(), 1));
  return {sums[0] / count, sums[1] / count};
}

Search search(const PowerModel& model, const std::vector<Observation>& rows, double huber) {
  Solver solver(model, huber);
  std::vector<Solution> found;
  for (const auto& start : starts_of(model, rows))
    found.push_back(solver.minimise(rows, start, kStartIterations));
  std::sort(found.begin(), found.end(),
            [](const Solution& a, const Solution& b) { return a.objective < b.objective; });
  Search result{.best = solver.minimise(rows, found.front().parameters, kPolishIterations)};
  result.starts = static_cast<std::int64_t>(found.size());
  const double limit = result.best.objective * (1.0 + 1e-3) + 1e-6;
  for (const auto& one : found) result.agreeing += one.objective <= limit ? 1 : 0;
  return result;
}

}  // namespace sluice::study
