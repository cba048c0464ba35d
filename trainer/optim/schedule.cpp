#include "trainer/optim/schedule.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <stdexcept>
#include <string>

namespace sluice::optim {
namespace {

/// From 1 at share 0 to `end` at share 1.
double linear_fall(double share, double end) { return 1.0 - share * (1.0 - end); }

double cosine_fall(double share, double end) {
  return end + (1.0 - end) * 0.5 * (1.0 + std::cos(std::numbers::pi * share));
}

double noam(const OptimOptions& options, std::int64_t d_model, std::int64_t step) {
  const auto t = static_cast<double>(step + 1);
  const auto warmup = static_cast<double>(options.warmup_steps);
  const double rise = options.warmup_steps > 0 ? t * std::pow(warmup, -1.5) : 1.0;
  return options.lr / std::sqrt(static_cast<double>(d_model)) * std::min(1.0 / std::sqrt(t), rise);
}

/// Share of the fall that is behind step `step`: 0 at `first`, 1 at the last step and after it.
double fallen_share(std::int64_t step, std::int64_t first, std::int64_t total_steps) {
  const std::int64_t span = std::max<std::int64_t>(total_steps - 1 - first, 1);
  return std::min(static_cast<double>(step - first) / static_cast<double>(span), 1.0);
}

}  // namespace

std::int64_t decay_begin(const OptimOptions& options, std::int64_t total_steps) {
  if (options.schedule == "constant" || options.schedule == "noam") return total_steps;
  if (options.schedule != "wsd") return std::min(options.warmup_steps, total_steps);
  const auto decaying =
      static_cast<std::int64_t>(std::llround(options.decay_fraction * static_cast<double>(total_steps)));
  return std::clamp(total_steps - decaying, std::min(options.warmup_steps, total_steps), total_steps);
}

double learning_rate(const OptimOptions& options, std::int64_t d_model, std::int64_t step,
                     std::int64_t total_steps) {
  if (step < 0) throw std::invalid_argument("learning_rate: step is " + std::to_string(step));
  if (options.schedule == "noam") return noam(options, d_model, step);
  if (step < options.warmup_steps) {
    return options.lr * static_cast<double>(step + 1) / static_cast<double>(options.warmup_steps);
  }
  if (options.schedule == "constant") return options.lr;
  const std::int64_t begin = decay_begin(options, total_steps);
  if (options.schedule == "linear") {
    return options.lr * linear_fall(fallen_share(step, begin, total_steps), options.min_lr);
  }
  if (options.schedule == "cosine") {
    return options.lr * cosine_fall(fallen_share(step, begin, total_steps), options.min_lr);
  }
  if (options.schedule == "wsd") {
    // The last stable step is the fall's start, so that its first step is below the peak already.
    return step < begin
               ? options.lr
               : options.lr * linear_fall(fallen_share(step, begin - 1, total_steps), options.min_lr);
  }
  throw std::invalid_argument("learning_rate: schedule is " + options.schedule);
}

}  // namespace sluice::optim
