#include "trainer/kernels/product_table.h"

#include <cstdio>
#include <nlohmann/json.hpp>
#include <stdexcept>

namespace sluice::kernels {
namespace {

constexpr const char* kProductFormat = "sluice-products";
constexpr std::int64_t kProductVersion = 1;
constexpr std::size_t kWordDigits = 16;

const char* name_of(ProductKind kind) {
  switch (kind) {
    case ProductKind::kLinear:
      return "linear";
    case ProductKind::kLinearBias:
      return "linear_bias";
    case ProductKind::kInputGradient:
      return "input_gradient";
    case ProductKind::kWeightGradient:
      return "weight_gradient";
  }
  throw std::invalid_argument("a product of no kind");
}

const char* name_of(ProductOperands operands) {
  switch (operands) {
    case ProductOperands::kBf16:
      return "";  // as tables had it before there were others
    case ProductOperands::kE4m3:
      return " of e4m3,";
    case ProductOperands::kE5m2:
      return " of e4m3 and e5m2,";
  }
  throw std::invalid_argument("a product of no operands");
}

std::string hex_of(const ProductAlgorithm& algorithm) {
  std::string hex;
  for (const std::uint64_t word : algorithm) {
    std::array<char, kWordDigits + 1> digits{};
    std::snprintf(digits.data(), digits.size(), "%016llx", static_cast<unsigned long long>(word));
    hex += digits.data();
  }
  return hex;
}

ProductAlgorithm algorithm_of(const std::string& problem, const std::string& hex) {
  ProductAlgorithm algorithm{};
  if (hex.size() != algorithm.size() * kWordDigits ||
      hex.find_first_not_of("0123456789abcdef") != std::string::npos) {
    throw std::invalid_argument("algorithm of " + problem + " is \"" + hex + "\", expected are " +
                                std::to_string(algorithm.size() * kWordDigits) + " hexadecimal digits");
  }
  for (std::size_t i = 0; i < algorithm.size(); ++i)
    algorithm[i] = std::stoull(hex.substr(i * kWordDigits, kWordDigits), nullptr, 16);
  return algorithm;
}

}  // namespace

std::string text_of(const ProductProblem& problem) {
  const auto number = [](std::int64_t value) { return std::to_string(value); };
  return std::string(name_of(problem.kind)) + name_of(problem.operands) +
         (problem.result == ProductResult::kBf16 ? " bf16 " : " fp32 ") + number(problem.m) + " x " +
         number(problem.n) + " x " + number(problem.k) + " by " + number(problem.a_stride) + ", " +
         number(problem.b_stride) + ", " + number(problem.d_stride);
}

std::string table_text(const ProductTable& table) {
  nlohmann::json algorithms = nlohmann::json::object();
  for (const auto& [problem, algorithm] : table.algorithms) algorithms[problem] = hex_of(algorithm);
  return nlohmann::json{{"format", kProductFormat},
                        {"version", kProductVersion},
                        {"device", table.device},
                        {"cublaslt", table.library},
                        {"algorithms", algorithms}}
      .dump();
}

ProductTable read_table(const std::string& text) {
  try {
    const auto json = nlohmann::json::parse(text);
    if (json.value("format", "") != kProductFormat)
      throw std::invalid_argument(std::string("format is not ") + kProductFormat);
    const auto version = json.at("version").get<std::int64_t>();
    if (version != kProductVersion)
      throw std::invalid_argument("version " + std::to_string(version) + ", this program reads " +
                                  std::to_string(kProductVersion));
    ProductTable table{.device = json.at("device").get<std::string>(),
                       .library = json.at("cublaslt").get<std::int64_t>()};
    for (const auto& [problem, hex] : json.at("algorithms").get<std::map<std::string, std::string>>())
      table.algorithms[problem] = algorithm_of(problem, hex);
    return table;
  } catch (const std::exception& error) {  // the parser's own among them
    throw std::invalid_argument(std::string("table of product algorithms: ") + error.what());
  }
}

}  // namespace sluice::kernels
