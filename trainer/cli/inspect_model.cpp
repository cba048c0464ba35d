#include "trainer/cli/inspect_model.h"

#include <algorithm>
#include <functional>
#include <numeric>

#include "trainer/model/parameters.h"

namespace sluice::cli {
namespace {

/// "blocks.3.sgu.weight" -> "blocks.*.sgu.weight"
std::string part_name(const std::string& name) {
  const std::string prefix = "blocks.";
  if (!name.starts_with(prefix)) return name;
  return prefix + "*" + name.substr(name.find('.', prefix.size()));
}

}  // namespace

std::vector<ModelPart> model_parts(const model::ModelOptions& options, std::int64_t vocabulary_size) {
  std::vector<ModelPart> parts;
  for (const auto& spec : model::parameter_specs(options, vocabulary_size)) {
    const auto name = part_name(spec.name);
    auto found =
        std::find_if(parts.begin(), parts.end(), [&](const ModelPart& part) { return part.name == name; });
    if (found == parts.end()) found = parts.insert(parts.end(), {name, 0, 0});
    ++found->tensors;
    found->parameters += std::accumulate(spec.shape.begin(), spec.shape.end(), std::int64_t{1},
                                         std::multiplies<std::int64_t>());
  }
  return parts;
}

}  // namespace sluice::cli
