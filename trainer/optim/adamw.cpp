#include "trainer/optim/adamw.h"

#include <ATen/Dispatch.h>
#include <ATen/Parallel.h>
#include <ATen/ops/zeros.h>
#include <c10/util/Exception.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <numeric>
#include <utility>

namespace sluice::optim {
namespace {

constexpr std::int64_t kGrain = 1 << 15;  // elements that repay another thread

void check_flat(const at::Tensor& flat) {
  TORCH_CHECK(flat.dim() == 1 && flat.is_contiguous(), "a flat buffer is needed, given is ", flat.sizes());
  TORCH_CHECK(flat.scalar_type() == at::kFloat || flat.scalar_type() == at::kDouble,
              "float32 or float64 is needed, given is ", flat.scalar_type());
}

void check_kind(const OptimOptions& options) {
  TORCH_CHECK(options.kind == "adamw" || options.kind == "adam", "optim.kind is ", options.kind,
              ", allowed are adamw and adam");
}

void check_host(const at::Tensor& flat) {
  check_flat(flat);
  TORCH_CHECK(flat.device().is_cpu(), "a buffer on the CPU is needed, given is one on ", flat.device());
}

void check_ranges(const char* what, const std::vector<Range>& ranges, std::int64_t numel) {
  std::int64_t previous = 0;
  for (const Range& range : ranges) {
    TORCH_CHECK(previous <= range.begin && range.begin <= range.end && range.end <= numel, what, " range [",
                range.begin, ", ", range.end, ") after ", previous, " in a buffer of ", numel);
    previous = range.end;
  }
}

std::int64_t end_of(const std::vector<Range>& ranges) { return ranges.empty() ? 0 : ranges.back().end; }

/// The constants of one update, in the buffer's type.
template <typename Scalar>
struct Update {
  Scalar gradient_scale, beta1, beta2, one_minus_beta1, one_minus_beta2, step_size, second_correction, eps;
  Scalar keep = 1;
  Scalar decay_in_gradient = 0;
};

template <typename Scalar>
Update<Scalar> make_update(const kernels::UpdateScalars& scalars, double gradient_scale) {
  const auto as = [](double value) { return static_cast<Scalar>(value); };
  return {.gradient_scale = as(gradient_scale),
          .beta1 = as(scalars.beta1),
          .beta2 = as(scalars.beta2),
          .one_minus_beta1 = as(scalars.one_minus_beta1),
          .one_minus_beta2 = as(scalars.one_minus_beta2),
          .step_size = as(scalars.step_size),
          .second_correction = as(scalars.second_correction),
          .eps = as(scalars.eps)};
}

/// Elementwise, and compiled without contraction to fused multiply-adds: any cut into ranges gives the same
/// bits.
template <typename Scalar>
void update_range(Scalar* __restrict parameter, const Scalar* __restrict gradient, Scalar* __restrict first,
                  Scalar* __restrict second, std::int64_t count, const Update<Scalar> c) {
  for (std::int64_t i = 0; i < count; ++i) {
    const Scalar g = gradient[i] * c.gradient_scale + parameter[i] * c.decay_in_gradient;
    first[i] = c.beta1 * first[i] + c.one_minus_beta1 * g;
    second[i] = c.beta2 * second[i] + c.one_minus_beta2 * (g * g);
    parameter[i] =
        parameter[i] * c.keep - c.step_size * first[i] / (std::sqrt(second[i]) * c.second_correction + c.eps);
  }
}

/// [begin, end) cut where decay begins and ends; `apply(begin, end, WithDecay)`.
template <typename Apply>
void for_each_piece(const std::vector<DecayRange>& decayed, std::int64_t begin, std::int64_t end,
                    const Apply& apply) {
  auto range = std::lower_bound(decayed.begin(), decayed.end(), begin,
                                [](const DecayRange& r, std::int64_t position) { return r.end <= position; });
  while (begin < end) {
    const bool inside = range != decayed.end() && range->begin <= begin;
    std::int64_t piece_end = end;
    if (range != decayed.end()) piece_end = std::min(end, inside ? range->end : range->begin);
    apply(begin, piece_end, inside);
    if (inside && piece_end == range->end) ++range;
    begin = piece_end;
  }
}

double sum_of_squares(const auto* values, std::int64_t count) {
  constexpr std::int64_t kLanes =
      8;  // independent sums, so that the loop vectorises without reordering by the compiler
  std::array<double, kLanes> lanes{};
  std::int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    for (std::int64_t lane = 0; lane < kLanes; ++lane) {
      const auto value = static_cast<double>(values[i + lane]);
      lanes[static_cast<std::size_t>(lane)] += value * value;
    }
  }
  for (; i < count; ++i) lanes[0] += static_cast<double>(values[i]) * static_cast<double>(values[i]);
  double sum = 0;
  for (const double lane : lanes) sum += lane;
  return sum;
}

double sum_of_blocks(const auto* values, std::int64_t count) {
  constexpr std::int64_t kBlock = 4096;
  std::vector<double> sums(static_cast<std::size_t>((count + kBlock - 1) / kBlock));
  at::parallel_for(0, static_cast<std::int64_t>(sums.size()), kGrain / kBlock,
                   [&](std::int64_t begin, std::int64_t end) {
                     for (std::int64_t block = begin; block < end; ++block) {
                       const std::int64_t from = block * kBlock;
                       sums[static_cast<std::size_t>(block)] =
                           sum_of_squares(values + from, std::min(kBlock, count - from));
                     }
                   });
  return std::accumulate(sums.begin(), sums.end(), 0.0);
}

}  // namespace

kernels::UpdateScalars update_scalars(const OptimOptions& options, double lr, std::int64_t update) {
  check_kind(options);
  TORCH_CHECK(update >= 1, "updates count from 1, given is ", update);
  const auto t = static_cast<double>(update);
  const bool decoupled = options.kind == "adamw";
  return {.step_size = lr / (1 - std::pow(options.betas[0], t)),
          .second_correction = 1 / std::sqrt(1 - std::pow(options.betas[1], t)),
          .beta1 = options.betas[0],
          .beta2 = options.betas[1],
          .one_minus_beta1 = 1 - options.betas[0],
          .one_minus_beta2 = 1 - options.betas[1],
          .eps = options.eps,
          .keep = decoupled ? 1 - lr * options.weight_decay : 1,
          .decay_in_gradient = decoupled ? 0 : options.weight_decay,
          .clip = options.clip};
}

AdamW::AdamW(const OptimOptions& options, at::Tensor parameters, std::vector<DecayRange> decayed)
    : AdamW(options, parameters, std::move(decayed), {{0, parameters.numel()}}) {
  compact_ = false;
  check_ranges("decay", decayed_, parameters_.numel());
}

AdamW::AdamW(const OptimOptions& options, at::Tensor parameters, std::vector<DecayRange> decayed,
             std::vector<Range> owned)
    : options_(options),
      parameters_(std::move(parameters)),
      decayed_(std::move(decayed)),
      owned_(std::move(owned)) {
  check_kind(options);
  check_flat(parameters_);
  std::int64_t elements = 0;
  for (const Range& range : owned_) elements += range.numel();
  compact_ = elements == parameters_.numel();
  const std::int64_t reach = compact_ ? std::numeric_limits<std::int64_t>::max() : parameters_.numel();
  check_ranges("decay", decayed_, reach);
  check_ranges("owned", owned_, reach);
  first_ = at::zeros({elements}, parameters_.options());
  second_ = at::zeros({elements}, parameters_.options());
}

void AdamW::step(const at::Tensor& gradients, double lr, double gradient_scale, std::int64_t update) {
  check_host(gradients);
  check_host(parameters_);
  TORCH_CHECK((compact_ ? gradients.numel() >= end_of(owned_) : gradients.numel() == parameters_.numel()) &&
                  gradients.scalar_type() == parameters_.scalar_type(),
              "gradients: ", gradients.numel(), " of ", gradients.scalar_type(),
              ", parameters: ", parameters_.numel(), " of ", parameters_.scalar_type());
  const kernels::UpdateScalars scalars = update_scalars(options_, lr, update);
  AT_DISPATCH_FLOATING_TYPES(parameters_.scalar_type(), "AdamW::step", [&] {
    const auto plain = make_update<scalar_t>(scalars, gradient_scale);
    auto with_decay = plain;
    with_decay.keep = static_cast<scalar_t>(scalars.keep);
    with_decay.decay_in_gradient = static_cast<scalar_t>(scalars.decay_in_gradient);
    auto* parameter = parameters_.data_ptr<scalar_t>();
    const auto* gradient = gradients.const_data_ptr<scalar_t>();
    auto* first = first_.data_ptr<scalar_t>();
    auto* second = second_.data_ptr<scalar_t>();
    for (const Range& range : owned_) {
      auto* const owned = compact_ ? parameter : parameter + range.begin;
      at::parallel_for(range.begin, range.end, kGrain, [&](std::int64_t begin, std::int64_t end) {
        for_each_piece(decayed_, begin, end, [&](std::int64_t from, std::int64_t to, bool decays) {
          const std::int64_t at = from - range.begin;
          update_range(owned + at, gradient + from, first + at, second + at, to - from,
                       decays ? with_decay : plain);
        });
      });
      if (compact_) parameter += range.numel();
      first += range.numel();
      second += range.numel();
    }
  });
}

at::Tensor slice_sums(const at::Tensor& flat, const std::vector<Range>& ranges) {
  check_host(flat);
  const at::Tensor sums =
      at::zeros({static_cast<std::int64_t>(ranges.size())}, flat.options().dtype(at::kDouble));
  auto* const sum = sums.mutable_data_ptr<double>();
  AT_DISPATCH_FLOATING_TYPES(flat.scalar_type(), "slice_sums", [&] {
    const auto* values = flat.const_data_ptr<scalar_t>();
    for (std::size_t i = 0; i < ranges.size(); ++i) {
      TORCH_CHECK(0 <= ranges[i].begin && ranges[i].begin <= ranges[i].end && ranges[i].end <= flat.numel(),
                  "range [", ranges[i].begin, ", ", ranges[i].end, ") of a buffer of ", flat.numel());
      sum[i] = sum_of_blocks(values + ranges[i].begin, ranges[i].numel());
    }
  });
  return sums;
}

double global_norm(const at::Tensor& sums) {
  check_host(sums);
  TORCH_CHECK(sums.scalar_type() == at::kDouble, "sums of squares are float64, given is ",
              sums.scalar_type());
  const auto* const values = sums.const_data_ptr<double>();
  return std::sqrt(std::accumulate(values, values + sums.numel(), 0.0));
}

double clip_scale(double norm, double clip) { return clip == 0.0 || norm <= clip ? 1.0 : clip / norm; }

}  // namespace sluice::optim
