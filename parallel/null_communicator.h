#pragma once

#include <c10/core/Device.h>

#include <memory>

#include "parallel/communicator.h"

namespace sluice::parallel {

/// A group of as many ranks as `host` that exchanges tensors with nobody: what would come from others is a
/// copy of what this rank has, made on a stream beside the one that computes. Sums are over copies. For
/// timing alone: values mean nothing, and ranks do not wait for one another. Bytes, barriers and splits are
/// the host's; a split of it exchanges with nobody, too. `device`: of the tensors. `engines`: what it says of
/// copy engines, so that the work beside it is that beside a real exchange. Keeps the host.
[[nodiscard]] std::unique_ptr<Communicator> make_null_communicator(std::unique_ptr<Communicator> host,
                                                                   c10::Device device,
                                                                   Movers engines = Movers::kNcclKernels);
/// The same over a host that outlives it.
[[nodiscard]] std::unique_ptr<Communicator> make_null_communicator(Communicator& host, c10::Device device,
                                                                   Movers engines = Movers::kNcclKernels);

}  // namespace sluice::parallel
