#include "trainer/cli/kernel_report.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

namespace sluice::cli {
namespace {

const char* name_of(train::Direction direction) {
  return direction == train::Direction::kForward ? "forward" : "backward";
}

const char* name_of(train::Limit limit) { return limit == train::Limit::kMemory ? "memory" : "products"; }

const char* precision_of(const train::BlockShape& shape) {
  return shape.compute == c10::ScalarType::BFloat16 ? "bf16" : "fp32";
}

/// Of several kernels, one after the other.
struct Total {
  double seconds = 0;
  double least = 0;

  void add(const train::KernelTime& one, const train::DeviceRates& rates) {
    seconds += one.seconds;
    least += train::least_seconds(one.work, rates);
  }
  [[nodiscard]] double share() const { return least / seconds; }
};

struct Totals {
  Total forward, backward, both;
};

Totals totals_of(const train::KernelReport& report) {
  Totals out;
  for (const train::KernelTime& one : report.kernels) {
    (one.work.direction == train::Direction::kForward ? out.forward : out.backward).add(one, report.rates);
    out.both.add(one, report.rates);
  }
  return out;
}

std::string line_of(const train::KernelTime& one, const train::DeviceRates& rates) {
  const train::Limit limit = train::limit_of(one.work, rates);
  const bool products = limit == train::Limit::kProducts;
  const double rate = 1e-12 * (products ? one.work.flops : one.work.bytes) / one.seconds;
  return fmt::format("{:<9} {:<20} {:10.1f} us {:8.2f} {:<8}  {:5.1f} % of {}\n", name_of(one.work.direction),
                     one.work.name, 1e6 * one.seconds, rate, products ? "TFLOP/s" : "TB/s",
                     100 * train::least_seconds(one.work, rates) / one.seconds, name_of(limit));
}

std::string line_of(const char* name, const Total& total) {
  return fmt::format("{:<30} {:10.1f} us, {:.1f} at the limits: {:.1f} %\n", name, 1e6 * total.seconds,
                     1e6 * total.least, 100 * total.share());
}

nlohmann::ordered_json json_of(const Total& total) {
  return {{"time_s", total.seconds}, {"limit_s", total.least}, {"share", total.share()}};
}

}  // namespace

std::string kernel_lines(const train::KernelReport& report) {
  const train::BlockShape& shape = report.shape;
  std::string out = fmt::format(
      "{}, {}: a block of d_model {}, d_ffn {}, {} sequences of {}\n"
      "limits: copies {:.2f} TB/s, products {:.1f} TFLOP/s\n",
      report.device, precision_of(shape), shape.width, shape.expansion, shape.batch, shape.positions,
      1e-12 * report.rates.bytes_per_s, 1e-12 * report.rates.flops_per_s);
  for (const train::KernelTime& one : report.kernels) out += line_of(one, report.rates);
  const Totals totals = totals_of(report);
  return out + line_of("forward", totals.forward) + line_of("backward", totals.backward) +
         line_of("block", totals.both);
}

std::string kernel_json(const train::KernelReport& report) {
  const train::BlockShape& shape = report.shape;
  nlohmann::ordered_json kernels = nlohmann::ordered_json::array();
  for (const train::KernelTime& one : report.kernels) {
    const double least = train::least_seconds(one.work, report.rates);
    kernels.push_back({{"name", one.work.name},
                       {"direction", name_of(one.work.direction)},
                       {"time_s", one.seconds},
                       {"repetitions", one.repetitions},
                       {"bytes", one.work.bytes},
                       {"flops", one.work.flops},
                       {"tb_per_s", 1e-12 * one.work.bytes / one.seconds},
                       {"tflops", 1e-12 * one.work.flops / one.seconds},
                       {"limit", name_of(train::limit_of(one.work, report.rates))},
                       {"limit_s", least},
                       {"share", least / one.seconds}});
  }
  const Totals totals = totals_of(report);
  const nlohmann::ordered_json out = {{"bench", "kernels"},
                                      {"device", report.device},
                                      {"precision", precision_of(shape)},
                                      {"batch", shape.batch},
                                      {"positions", shape.positions},
                                      {"d_model", shape.width},
                                      {"d_ffn", shape.expansion},
                                      {"causal", shape.mixing == kernels::Mixing::kCausal},
                                      {"copy_tb_per_s", 1e-12 * report.rates.bytes_per_s},
                                      {"product_tflops", 1e-12 * report.rates.flops_per_s},
                                      {"kernels", kernels},
                                      {"forward", json_of(totals.forward)},
                                      {"backward", json_of(totals.backward)},
                                      {"block", json_of(totals.both)}};
  return out.dump();
}

}  // namespace sluice::cli
