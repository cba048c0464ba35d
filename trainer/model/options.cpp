#include "trainer/model/options.h"

#include <c10/util/Exception.h>

namespace sluice::model {

Family family_of(const ModelOptions& options) {
  if (options.kind == "gmlp") return Family::kGmlp;
  if (options.kind == "transformer") return Family::kTransformer;
  TORCH_CHECK(options.kind == "mixer", "model.kind is ", options.kind,
              ", allowed are gmlp, transformer and mixer");
  return Family::kMixer;
}

std::int64_t gate_channels(const ModelOptions& options) {
  return options.gate == "split" ? options.d_ffn / 2 : options.d_ffn;
}

bool has_plain_blocks(const ModelOptions& o) {
  return family_of(o) == Family::kGmlp && o.gate == "split" && o.spatial_heads == 1 &&
         o.gate_activation == "none" && o.gelu == "exact" && o.token_shift == 0 && o.tiny_attention == 0 &&
         o.gate_norm && !draws_in_training(o);
}

}  // namespace sluice::model
