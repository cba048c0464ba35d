#pragma once

#include <c10/core/Device.h>

#include <optional>
#include <string>

#include "dataio/corpus.h"
#include "dataio/loader.h"
#include "dataio/order.h"
#include "parallel/communicator.h"
#include "trainer/train/masking.h"
#include "trainer/train/options.h"

// How a run's settings cut a split into windows, put them in order, and deal them out to ranks.

namespace sluice::train {

[[nodiscard]] dataio::WindowPlan window_plan(const RunOptions& options, const dataio::SplitLayout& split);
/// That there is no window: a sentence that begins with `split`, which names it. None: there is one.
[[nodiscard]] std::optional<std::string> window_fault(const dataio::WindowPlan& plan,
                                                      const std::string& split);
[[nodiscard]] dataio::Order sample_order(const RunOptions& options, const dataio::SplitLayout& split);

/// Throws InputError where parallel.sp does not divide the ranks, or a rank would have no sample.
void check_ranks(const RunOptions& options, const parallel::Communicator& world);
/// The ranks that share sequences (parallel::Mesh) get the same samples.
[[nodiscard]] dataio::Slicing slicing_of(const RunOptions& options, const parallel::Communicator& world);

/// Batches that `device` takes are in page-locked memory where it is a GPU. `masking`: none for the causal
/// objective; rows are as sample_form says.
[[nodiscard]] dataio::LoaderOptions loader_options(const RunOptions& options, at::Device device,
                                                   const std::optional<Masking>& masking);

}  // namespace sluice::train
