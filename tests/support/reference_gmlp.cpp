#include "tests/support/reference_gmlp.h"

#include <cmath>
#include <numbers>
#include <utility>

namespace sluice::testing {
namespace {

/// value + derivative * epsilon with epsilon^2 = 0.
struct Dual {
  double value = 0;
  double derivative = 0;
  Dual(double v = 0, double d = 0) : value(v), derivative(d) {}
};
Dual operator+(Dual a, Dual b) { return {a.value + b.value, a.derivative + b.derivative}; }
Dual operator-(Dual a, Dual b) { return {a.value - b.value, a.derivative - b.derivative}; }
Dual operator*(Dual a, Dual b) {
  return {a.value * b.value, a.derivative * b.value + a.value * b.derivative};
}
Dual operator/(Dual a, Dual b) {
  return {a.value / b.value, (a.derivative * b.value - a.value * b.derivative) / (b.value * b.value)};
}
Dual square_root(Dual a) { return {std::sqrt(a.value), a.derivative / (2 * std::sqrt(a.value))}; }
Dual exponential(Dual a) { return {std::exp(a.value), a.derivative * std::exp(a.value)}; }
Dual logarithm(Dual a) { return {std::log(a.value), a.derivative / a.value}; }
Dual gelu(Dual a) {
  const double phi = 0.5 * (1 + std::erf(a.value / std::numbers::sqrt2));
  const double density = std::exp(-0.5 * a.value * a.value) / std::sqrt(2 * std::numbers::pi);
  return {a.value * phi, a.derivative * (phi + a.value * density)};
}

using Row = std::vector<Dual>;
using Rows = std::vector<Row>;  // one for each position

/// Parameters by name, one element of which may carry the derivative 1.
class Point {
 public:
  explicit Point(const std::map<std::string, ReferenceGmlp::Values>& values) {
    for (const auto& [name, numbers] : values) rows_.emplace(name, Row(numbers.begin(), numbers.end()));
  }
  void set_derivative(const std::string& name, std::size_t element, double derivative) {
    rows_.at(name).at(element).derivative = derivative;
  }
  [[nodiscard]] const Row& of(const std::string& name) const { return rows_.at(name); }

 private:
  std::map<std::string, Row> rows_;
};

Row layer_norm(const Row& x, const Point& p, const std::string& name, double eps) {
  Dual mean, variance;
  for (const Dual& e : x) mean = mean + e / Dual(static_cast<double>(x.size()));
  for (const Dual& e : x) variance = variance + (e - mean) * (e - mean) / Dual(static_cast<double>(x.size()));
  const Row& weight = p.of(name + ".weight");
  const Row& bias = p.of(name + ".bias");
  Row out;
  for (std::size_t c = 0; c < x.size(); ++c) {
    const Dual unit = (x[c] - mean) / square_root(variance + Dual(eps));
    out.push_back(unit * weight[c] + bias[c]);
  }
  return out;
}

Row linear(const Row& x, const Point& p, const std::string& name, std::size_t outputs) {
  const Row& weight = p.of(name + ".weight");
  const Row& bias = p.of(name + ".bias");
  Row out;
  for (std::size_t o = 0; o < outputs; ++o) {
    Dual sum = bias[o];
    for (std::size_t i = 0; i < x.size(); ++i) sum = sum + weight[o * x.size() + i] * x[i];
    out.push_back(sum);
  }
  return out;
}

Rows block(const Rows& x, const Point& p, const std::string& name, const model::ModelOptions& options) {
  const auto hidden = static_cast<std::size_t>(options.d_ffn);
  const auto stride = static_cast<std::size_t>(options.seq_len);
  const std::size_t half = hidden / 2;
  Rows bypass, gate, out;
  for (const Row& row : x) {
    Row z = linear(layer_norm(row, p, name + "norm", options.norm_eps), p, name + "expand", hidden);
    for (Dual& e : z) e = gelu(e);
    bypass.emplace_back(z.begin(), z.begin() + static_cast<std::ptrdiff_t>(half));
    gate.push_back(layer_norm(Row(z.begin() + static_cast<std::ptrdiff_t>(half), z.end()), p,
                              name + "sgu.norm", options.norm_eps));
  }
  const Row& spatial_weight = p.of(name + "sgu.weight");
  const Row& spatial_bias = p.of(name + "sgu.bias");
  for (std::size_t i = 0; i < x.size(); ++i) {
    Row gated;
    for (std::size_t c = 0; c < half; ++c) {
      Dual mixed = spatial_bias[i];
      for (std::size_t j = 0; j < (options.causal ? i + 1 : x.size()); ++j) {
        mixed = mixed + spatial_weight[i * stride + j] * gate[j][c];
      }
      gated.push_back(bypass[i][c] * mixed);
    }
    Row row = linear(gated, p, name + "contract", x[i].size());
    for (std::size_t c = 0; c < row.size(); ++c) row[c] = row[c] + x[i][c];
    out.push_back(std::move(row));
  }
  return out;
}

Row embed(std::int64_t token, std::size_t position, const Point& p, const model::ModelOptions& options) {
  const auto width = static_cast<std::size_t>(options.d_model);
  const auto real_width = static_cast<double>(options.d_model);
  Row x;
  for (std::size_t c = 0; c < width; ++c) {
    Dual e = p.of("embed.weight")[static_cast<std::size_t>(token) * width + c];
    if (options.scale_embedding) e = e * Dual(std::sqrt(real_width));
    if (options.positions == "sinusoidal") {
      const double angle =
          static_cast<double>(position) / std::pow(10000.0, static_cast<double>(c / 2 * 2) / real_width);
      e = e + Dual(c % 2 == 0 ? std::sin(angle) : std::cos(angle));
    }
    x.push_back(e);
  }
  return x;
}

Rows forward(const ReferenceGmlp::Sequence& tokens, const Point& p, const model::ModelOptions& options,
             std::int64_t vocabulary_size) {
  Rows x;
  for (std::size_t t = 0; t < tokens.size(); ++t) x.push_back(embed(tokens[t], t, p, options));
  for (std::int64_t layer = 0; layer < options.layers; ++layer) {
    x = block(x, p, "blocks." + std::to_string(layer) + ".", options);
  }
  const Row& head = p.of(options.tied ? "embed.weight" : "head.weight");
  Rows logits;
  for (const Row& row : x) {
    const Row normed = layer_norm(row, p, "norm", options.norm_eps);
    Row out;
    for (std::size_t v = 0; v < static_cast<std::size_t>(vocabulary_size); ++v) {
      Dual sum = options.head_bias ? p.of("head.bias")[v] : Dual();
      for (std::size_t c = 0; c < normed.size(); ++c) sum = sum + head[v * normed.size() + c] * normed[c];
      out.push_back(sum);
    }
    logits.push_back(std::move(out));
  }
  return logits;
}

Dual loss(const std::vector<ReferenceGmlp::Sequence>& tokens,
          const std::vector<ReferenceGmlp::Sequence>& targets, const Point& p,
          const model::ModelOptions& options, std::int64_t vocabulary_size) {
  Dual sum;
  for (std::size_t s = 0; s < tokens.size(); ++s) {
    const Rows logits = forward(tokens[s], p, options, vocabulary_size);
    for (std::size_t t = 0; t < logits.size(); ++t) {
      if (targets[s][t] < 0) continue;
      Dual normaliser;
      for (const Dual& logit : logits[t]) normaliser = normaliser + exponential(logit);
      sum = sum + logarithm(normaliser) - logits[t][static_cast<std::size_t>(targets[s][t])];
    }
  }
  return sum;
}

}  // namespace

ReferenceGmlp::ReferenceGmlp(model::ModelOptions options, std::int64_t vocabulary_size,
                             std::map<std::string, Values> parameters)
    : options_(std::move(options)), vocabulary_size_(vocabulary_size), parameters_(std::move(parameters)) {}

ReferenceGmlp::Values ReferenceGmlp::logits(const Sequence& tokens) const {
  Values out;
  for (const Row& row : forward(tokens, Point(parameters_), options_, vocabulary_size_)) {
    for (const Dual& logit : row) out.push_back(logit.value);
  }
  return out;
}

double ReferenceGmlp::loss_sum(const std::vector<Sequence>& tokens,
                               const std::vector<Sequence>& targets) const {
  return loss(tokens, targets, Point(parameters_), options_, vocabulary_size_).value;
}

ReferenceGmlp::Values ReferenceGmlp::gradient(const std::string& parameter,
                                              const std::vector<Sequence>& tokens,
                                              const std::vector<Sequence>& targets) const {
  Values out;
  Point point(parameters_);
  for (std::size_t element = 0; element < parameters_.at(parameter).size(); ++element) {
    point.set_derivative(parameter, element, 1.0);
    out.push_back(loss(tokens, targets, point, options_, vocabulary_size_).derivative);
    point.set_derivative(parameter, element, 0.0);
  }
  return out;
}

}  // namespace sluice::testing
