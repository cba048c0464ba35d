#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "trainer/model/language_model.h"
#include "trainer/model/parameters.h"

namespace sluice::testing {

/// Of models that only need to be small.
inline constexpr std::int64_t kSmallVocabulary = 11;
inline constexpr std::int64_t kSmallPositions = 9;

/// A model with its parameters and gradients in two flat buffers, as the trainer lays them out.
struct SmallModel {
  model::ModelOptions options;
  std::int64_t vocabulary_size = 0;
  std::vector<model::ParameterSpec> specs;
  at::Tensor gradients;            ///< flat
  std::vector<at::Tensor> leaves;  ///< in the order of specs
  std::unique_ptr<model::LanguageModel> model;

  /// Every parameter as doubles, by name.
  [[nodiscard]] std::map<std::string, std::vector<double>> values() const;
};

/// Parameters drawn from N(0, 0.4) (norm weights and sgu.bias about one), so that no term of the model is
/// negligible.
[[nodiscard]] SmallModel make_small_model(const model::ModelOptions& options, std::int64_t vocabulary_size,
                                          at::ScalarType dtype, std::uint64_t seed,
                                          model::Recompute recompute = model::Recompute::kNone);

/// int64 tokens in [0, vocabulary_size), a pure function of the seed.
[[nodiscard]] at::Tensor random_tokens(std::vector<std::int64_t> shape, std::int64_t vocabulary_size,
                                       std::uint64_t seed);

/// ||a - b|| / ||b||, in double; ||a|| if b is zero.
[[nodiscard]] double relative_error(const at::Tensor& a, const at::Tensor& b);
[[nodiscard]] double relative_error(const at::Tensor& a, const std::vector<double>& b);

}  // namespace sluice::testing
