#pragma once

#include <functional>
#include <memory>

#include "dataio/prepare_plan.h"
#include "dataio/tokenizer.h"

namespace sluice::dataio {

/// The tokenizer of a plan: made, loaded, or gathered or trained from the input, which is then read once.
/// Throws DataError.
[[nodiscard]] std::unique_ptr<Tokenizer> tokenizer_for(
    const PreparePlan& plan, const std::function<void(const PrepareProgress&)>& progress);

}  // namespace sluice::dataio
