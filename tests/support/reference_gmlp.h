#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "trainer/model/options.h"

namespace sluice::testing {

/// A gMLP written from the paper's figure 1 with plain loops in double, one sequence at a time, no ATen:
/// slow, and independent of the model under test. Gradients by dual numbers: exact, one forward for each
/// parameter element.
class ReferenceGmlp {
 public:
  using Sequence = std::vector<std::int64_t>;
  using Values = std::vector<double>;  ///< row-major

  ReferenceGmlp(model::ModelOptions options, std::int64_t vocabulary_size,
                std::map<std::string, Values> parameters);

  /// [T * V].
  [[nodiscard]] Values logits(const Sequence& tokens) const;
  /// Sum of -log p(target) over all sequences; negative targets count as zero.
  [[nodiscard]] double loss_sum(const std::vector<Sequence>& tokens,
                                const std::vector<Sequence>& targets) const;
  /// d loss_sum / d parameter, elementwise.
  [[nodiscard]] Values gradient(const std::string& parameter, const std::vector<Sequence>& tokens,
                                const std::vector<Sequence>& targets) const;

 private:
  model::ModelOptions options_;
  std::int64_t vocabulary_size_;
  std::map<std::string, Values> parameters_;
};

}  // namespace sluice::testing
