#include "trainer/model/held_parameters.h"

namespace sluice::model {

std::optional<HeldRows> held_rows(const kernels::SequenceExchange* exchange) {
  if (exchange == nullptr || exchange->mode() == kernels::ExchangeMode::kAllToAll) return std::nullopt;
  return HeldRows{exchange->rows(), exchange->rank()};
}

ParameterSpec held_spec(const ParameterSpec& spec, const std::optional<HeldRows>& held) {
  ParameterSpec part = spec;
  if (held && spec.deal == Deal::kRows) part.shape[part.shape.size() - 2] = held->count();
  return part;
}

std::vector<ParameterSpec> held_specs(const std::vector<ParameterSpec>& specs,
                                      const std::optional<HeldRows>& held) {
  std::vector<ParameterSpec> parts;
  parts.reserve(specs.size());
  for (const ParameterSpec& spec : specs) parts.push_back(held_spec(spec, held));
  return parts;
}

}  // namespace sluice::model
