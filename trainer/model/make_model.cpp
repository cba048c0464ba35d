#include <c10/util/Exception.h>

#include <utility>

#include "trainer/model/gmlp.h"
#include "trainer/model/held_parameters.h"
#include "trainer/model/mixer.h"
#include "trainer/model/transformer.h"

namespace sluice::model {

namespace {

std::unique_ptr<LanguageModel> make_family(const ModelOptions& options, std::int64_t vocabulary_size,
                                           std::vector<at::Tensor> parameters, const Computing& computing,
                                           const kernels::SequenceExchange* exchange) {
  switch (family_of(options)) {
    case Family::kGmlp:
      return std::make_unique<Gmlp>(options, vocabulary_size, std::move(parameters), computing,
                                    held_rows(exchange));
    case Family::kTransformer:
      return std::make_unique<Transformer>(options, vocabulary_size, std::move(parameters), computing);
    case Family::kMixer:
      return std::make_unique<Mixer>(options, vocabulary_size, std::move(parameters), computing);
  }
  TORCH_CHECK(false, "a family of value ", static_cast<int>(family_of(options)));
}

}  // namespace

std::unique_ptr<LanguageModel> make_model(const ModelOptions& options, std::int64_t vocabulary_size,
                                          std::vector<at::Tensor> parameters, const Computing& computing,
                                          const kernels::SequenceExchange* exchange) {
  auto model = make_family(options, vocabulary_size, std::move(parameters), computing, exchange);
  model->shard_sequence(exchange);
  return model;
}

}  // namespace sluice::model
