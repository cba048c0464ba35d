#include "trainer/train/exchange_cost.h"

#include <c10/util/Exception.h>
#include <fmt/format.h>

#include <algorithm>

#include "trainer/kernels/shared_gate.h"
#include "trainer/kernels/strip_products.h"
#include "trainer/train/sequence_ranks.h"

namespace sluice::train {
namespace {

using kernels::ExchangeMode;
using kernels::Strip;

constexpr double kProducts = 3;       // W v, W^T dy, dy v^T
constexpr double kUpdateTensors = 7;  // AdamW reads four tensors and writes three
constexpr double kFlops = 2;          // a multiplication and an addition

double seconds(const parallel::LinkModel& link, double bytes) {
  return link.latency_s + bytes * link.s_per_byte;
}

std::vector<Strip> all_rows(const kernels::SequenceRows& rows) {
  std::vector<Strip> strips;
  for (std::int64_t rank = 0; rank < rows.ranks(); ++rank)
    for (const kernels::PositionRange& range : {rows.head(rank), rows.tail(rank)})
      strips.push_back({range, range.begin});
  return strips;
}

std::vector<Strip> whole(const kernels::SequenceRows& rows) { return {{{0, rows.positions()}, 0}}; }

/// The rows of `owner` that rank `at` multiplies (kernels/ring_mixing.cpp).
std::vector<Strip> needed(const ExchangeShape& shape, std::int64_t owner, std::int64_t at) {
  std::vector<Strip> strips = shape.rows.strips(owner);
  if (shape.mixing == kernels::Mixing::kCausal && at > owner) strips.pop_back();
  return strips;
}

std::int64_t count(const std::vector<Strip>& strips) {
  std::int64_t rows = 0;
  for (const Strip& strip : strips) rows += strip.range.count();
  return rows;
}

double product_seconds(const ExchangeShape& shape, std::int64_t pairs, double channels, double flops_per_s) {
  return kFlops * static_cast<double>(pairs * shape.batch) * channels / flops_per_s;
}

/// Of `share` of the weights, summed over `ranks` ranks.
void add_weights(const ExchangeShape& shape, const ExchangeRates& rates, double share, std::int64_t ranks,
                 ExchangePrediction& prediction) {
  if (!shape.free) return;  // 2 n - 1 numbers, alike in every mode
  const auto n = static_cast<double>(shape.rows.positions());
  const double bytes = share * static_cast<double>(shape.heads * shape.master_bytes) * n * n;
  const auto of_each = static_cast<double>(shape.micro_batches);
  if (ranks > 1) prediction.gradient_s = seconds(rates.all_reduce, bytes) / of_each;
  // Tiles above the diagonal are not updated; W's own half is what an update of a causal one goes over.
  const double updated = shape.mixing == kernels::Mixing::kCausal && rates.skips_triangle ? 0.5 : 1;
  prediction.update_s = updated * kUpdateTensors * bytes / rates.pass_bytes_per_s / of_each;
}

double bytes_of_rows(const ExchangeShape& shape, std::int64_t rows, std::int64_t channels) {
  return static_cast<double>(shape.batch * rows * channels * shape.compute_bytes);
}

/// The positions of all ranks, padded to the most that one has.
std::int64_t padded(const ExchangeShape& shape) { return shape.rows.most() * shape.rows.ranks(); }

double most_share(const ExchangeShape& shape) {
  return static_cast<double>(shape.rows.most()) / static_cast<double>(shape.rows.positions());
}

ExchangePrediction all_to_all(const ExchangeShape& shape, const ExchangeRates& rates) {
  const std::int64_t width = (shape.channels + shape.rows.ranks() - 1) / shape.rows.ranks();
  const kernels::StripProduct product{all_rows(shape.rows), whole(shape.rows), shape.mixing};
  ExchangePrediction prediction{.mode = ExchangeMode::kAllToAll};
  prediction.exchange_s = 5 * seconds(rates.all_to_all, bytes_of_rows(shape, padded(shape), width));
  prediction.product_s = kProducts * product_seconds(shape, product.multiplied(), static_cast<double>(width),
                                                     rates.narrow_flops_per_s);
  add_weights(shape, rates, 1, shape.data_ranks * shape.rows.ranks(), prediction);
  return prediction;
}

ExchangePrediction row_shard(const ExchangeShape& shape, const ExchangeRates& rates) {
  std::int64_t pairs = 0;
  for (std::int64_t rank = 0; rank < shape.rows.ranks(); ++rank) {
    const kernels::StripProduct product{shape.rows.strips(rank), whole(shape.rows), shape.mixing};
    pairs = std::max(pairs, product.multiplied());
  }
  const double bytes = bytes_of_rows(shape, padded(shape), shape.channels);
  const double product =
      product_seconds(shape, pairs, static_cast<double>(shape.channels), rates.flops_per_s);
  const double gather = seconds(rates.all_gather, bytes);
  const double scatter = seconds(rates.reduce_scatter, bytes);
  const double later =
      1 - static_cast<double>(kernels::gathered_first(shape.batch)) / static_cast<double>(shape.batch);
  ExchangePrediction prediction{.mode = ExchangeMode::kRowShard};
  prediction.exchange_s = gather - rates.gathers_hidden * later * std::min(gather, product) +
                          (1 - rates.gathers_hidden) * gather + scatter -
                          rates.gathers_hidden * std::min(scatter, product);
  prediction.product_s = kProducts * product;
  add_weights(shape, rates, most_share(shape), shape.data_ranks, prediction);
  return prediction;
}

/// Steps end together: each takes what the busiest rank does.
ExchangePrediction ring(const ExchangeShape& shape, const ExchangeRates& rates) {
  const std::int64_t ranks = shape.rows.ranks();
  ExchangePrediction prediction{.mode = ExchangeMode::kRing};
  for (std::int64_t step = 0; step < ranks; ++step) {
    std::int64_t pairs = 0;
    std::int64_t next = 0;
    for (std::int64_t rank = 0; rank < ranks; ++rank) {
      const std::int64_t owner = (rank + step) % ranks;
      const kernels::StripProduct product{shape.rows.strips(rank), needed(shape, owner, rank), shape.mixing};
      pairs = std::max(pairs, product.multiplied());
      if (step + 1 < ranks) next = std::max(next, count(needed(shape, (owner + 1) % ranks, rank)));
    }
    const double product =
        product_seconds(shape, pairs, static_cast<double>(shape.channels), rates.flops_per_s);
    prediction.product_s += kProducts * product;
    if (step + 1 == ranks) continue;
    const double message = seconds(rates.pass, bytes_of_rows(shape, next, shape.channels));
    prediction.exchange_s += kProducts * (message - rates.passes_hidden * std::min(message, product));
  }
  add_weights(shape, rates, most_share(shape), shape.data_ranks, prediction);
  return prediction;
}

}  // namespace

std::vector<ExchangePrediction> predict_exchanges(const ExchangeShape& shape, const ExchangeRates& rates) {
  std::vector<ExchangePrediction> predictions;
  if (shape.heads == 1) predictions.push_back(all_to_all(shape, rates));
  predictions.push_back(row_shard(shape, rates));
  predictions.push_back(ring(shape, rates));
  return predictions;
}

const ExchangePrediction& cheapest(const std::vector<ExchangePrediction>& predictions) {
  TORCH_CHECK(!predictions.empty(), "cheapest: no exchange to choose from");
  return *std::ranges::min_element(predictions, {}, &ExchangePrediction::total_s);
}

std::string prediction_text(const std::vector<ExchangePrediction>& predictions) {
  std::string text;
  for (const ExchangePrediction& one : predictions)
    text += fmt::format("{}{} {:.3g} ms (exchange {:.3g}, products {:.3g}, gradient {:.3g}, update {:.3g})",
                        text.empty() ? "" : ", ", exchange_name(one.mode), 1e3 * one.total_s(),
                        1e3 * one.exchange_s, 1e3 * one.product_s, 1e3 * one.gradient_s, 1e3 * one.update_s);
  return text;
}

}  // namespace sluice::train
