#include "trainer/model/options.h"

#include <c10/util/Exception.h>

namespace sluice::model {

Family family_of(const ModelOptions& options) {
  if (options.kind == "gmlp") return Family::kGmlp;
  TORCH_CHECK(options.kind == "transformer", "model.kind is ", options.kind,
              ", allowed are gmlp and transformer");
  return Family::kTransformer;
}

std::int64_t gate_channels(const ModelOptions& options) {
  return options.gate == "split" ? options.d_ffn / 2 : options.d_ffn;
}

}  // namespace sluice::model
