#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

#include "dataio/loader.h"
#include "trainer/kernels/device_update.h"

namespace sluice::train {

/// All that a micro-batch's work on a GPU reads of what changes from one to the next, in one row of bytes, so
/// that one copy brings it. The other tensors are views of it.
struct MicroInput {
  /// On a device, or for one in page-locked memory.
  MicroInput(at::Device device, std::int64_t batch, std::int64_t row_tokens);

  /// On the host: everything at once.
  void fill(const kernels::UpdateScalars& update, const kernels::Agreed& begin,
            const dataio::Batch& samples) const;

  at::Tensor bytes;         ///< uint8
  at::Tensor scalars;       ///< float64: kernels::UpdateScalars
  at::Tensor start;         ///< float64: kernels::Agreed as this rank starts it
  at::Tensor first_sample;  ///< int64 [1]
  at::Tensor rows;          ///< int32 [1]
  at::Tensor windows;       ///< int32 [B, row_tokens]
};

}  // namespace sluice::train
