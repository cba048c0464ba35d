#pragma once

#include <optional>
#include <string>

namespace sluice::train {

/// Dense peaks of a GPU as its data sheet states them (half of a figure "with sparsity"), FLOP/s.
struct DatasheetPeak {
  double bf16 = 0;  ///< tensor cores, sums in fp32
  double tf32 = 0;  ///< tensor cores
  double fp32 = 0;  ///< ordinary cores
};

/// By the name that CUDA gives the GPU ("NVIDIA H100 80GB HBM3"). None for a name that is not in the table, a
/// slice of a GPU (MIG) among them.
[[nodiscard]] std::optional<DatasheetPeak> datasheet_peak(const std::string& gpu_name);

/// The peak for a `train.precision` (fp32, tf32, bf16, and bf16's for fp8); none for others and for unknown
/// GPUs.
[[nodiscard]] std::optional<double> datasheet_peak(const std::string& gpu_name, const std::string& precision);

}  // namespace sluice::train
