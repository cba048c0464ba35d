#pragma once

#include <vector>

#include "parallel/communicator.h"
#include "trainer/cli/arguments.h"
#include "trainer/model/options.h"
#include "trainer/train/options.h"

namespace sluice::cli {

/// eval's flags for ranks that share windows.
[[nodiscard]] std::vector<Flag> sharing_flags();
/// What train::SequenceRanks needs: such a model and the flags. Throws train::InputError for what ranks
/// cannot share, and for ranks that the flags do not divide.
[[nodiscard]] train::RunOptions sharing_of(const Arguments& arguments, const model::ModelOptions& model,
                                           const parallel::Communicator& world);

}  // namespace sluice::cli
