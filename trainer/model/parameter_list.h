#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <utility>
#include <vector>

#include "trainer/kernels/transformer_block.h"
#include "trainer/model/options.h"

namespace sluice::model {

/// Hands out parameters in the order of parameter_specs.
class ParameterList {
 public:
  ParameterList(const ModelOptions& options, std::vector<at::Tensor> parameters)
      : options_(options), parameters_(std::move(parameters)) {}

  at::Tensor next() { return std::move(parameters_[index_++]); }
  kernels::Norm next_norm();
  kernels::Linear next_linear() {
    at::Tensor weight = next();
    return {std::move(weight), options_.bias ? next() : at::Tensor()};
  }

  /// How many have been handed out.
  [[nodiscard]] std::int64_t count() const { return static_cast<std::int64_t>(index_); }

 private:
  const ModelOptions& options_;
  std::vector<at::Tensor> parameters_;
  std::size_t index_ = 0;
};

}  // namespace sluice::model
