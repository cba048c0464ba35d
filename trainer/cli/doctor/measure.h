#pragma once

#include <c10/core/Device.h>

#include "parallel/communicator.h"
#include "trainer/cli/doctor/probe.h"

namespace sluice::cli::doctor {

/// Of this rank's clock against rank 0's, seconds, the median of a few readings behind barriers. Collective.
[[nodiscard]] double clock_ahead(parallel::Communicator& world);

/// How fast this rank is: a product of matrices while all ranks do the same, and broadcasts of 1 MiB from
/// every rank in turn, through NCCL between GPUs. `ranks` exchange
/// tensors of `device`. Fills the probe's times and sum_right. About a second for
/// ten ranks. Collective.
void measure_speed(RankProbe& probe, parallel::Communicator& ranks, at::Device device);

}  // namespace sluice::cli::doctor
