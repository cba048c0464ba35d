#include "trainer/train/datasheet.h"

#include <array>
#include <string_view>

namespace sluice::train {
namespace {

struct Entry {
  std::string_view name;
  double bf16;  ///< TFLOP/s
  double tf32;
  double fp32;
};

// Data sheets of NVIDIA. Only whole names: "H100" alone is five parts with three peaks.
constexpr std::array kTable = {
    Entry{"NVIDIA A100-SXM4-40GB", 312.0, 156.0, 19.5},
    Entry{"NVIDIA A100-SXM4-80GB", 312.0, 156.0, 19.5},
    Entry{"NVIDIA A100-PCIE-40GB", 312.0, 156.0, 19.5},
    Entry{"NVIDIA A100-PCIE-80GB", 312.0, 156.0, 19.5},
    Entry{"NVIDIA A100 80GB PCIe", 312.0, 156.0, 19.5},
    Entry{"NVIDIA A800-SXM4-80GB", 312.0, 156.0, 19.5},
    Entry{"NVIDIA A800 80GB PCIe", 312.0, 156.0, 19.5},
    Entry{"NVIDIA A30", 165.0, 82.0, 10.3},
    Entry{"NVIDIA A40", 149.7, 74.8, 37.4},
    Entry{"NVIDIA A10", 125.0, 62.5, 31.2},
    Entry{"NVIDIA RTX A6000", 154.8, 77.4, 38.7},
    Entry{"NVIDIA GeForce RTX 3090", 71.0, 35.6, 35.6},
    Entry{"NVIDIA L4", 121.0, 60.0, 30.3},
    Entry{"NVIDIA L40", 181.0, 90.5, 90.5},
    Entry{"NVIDIA L40S", 362.0, 183.0, 91.6},
    Entry{"NVIDIA RTX 6000 Ada Generation", 364.2, 182.1, 91.1},
    Entry{"NVIDIA GeForce RTX 4090", 165.2, 82.6, 82.6},
    Entry{"NVIDIA H100 80GB HBM3", 989.4, 494.7, 66.9},
    Entry{"NVIDIA H100 PCIe", 756.0, 378.0, 51.2},
    Entry{"NVIDIA H100 NVL", 835.5, 417.5, 60.0},
    Entry{"NVIDIA H800", 989.4, 494.7, 66.9},
    Entry{"NVIDIA H200", 989.4, 494.7, 66.9},
    Entry{"NVIDIA H200 NVL", 835.5, 417.5, 60.0},
    Entry{"NVIDIA GH200 480GB", 989.4, 494.7, 66.9},
    Entry{"NVIDIA GH200 120GB", 989.4, 494.7, 66.9},
    Entry{"NVIDIA B200", 2250.0, 1125.0, 75.0},
    Entry{"NVIDIA GB200", 2500.0, 1250.0, 80.0},
    Entry{"NVIDIA GeForce RTX 5090", 209.5, 104.8, 104.8},
};

}  // namespace

std::optional<DatasheetPeak> datasheet_peak(const std::string& gpu_name) {
  for (const Entry& entry : kTable) {
    if (entry.name == gpu_name)
      return DatasheetPeak{.bf16 = 1e12 * entry.bf16, .tf32 = 1e12 * entry.tf32, .fp32 = 1e12 * entry.fp32};
  }
  return std::nullopt;
}

std::optional<double> datasheet_peak(const std::string& gpu_name, const std::string& precision) {
  const auto peak = datasheet_peak(gpu_name);
  if (!peak) return std::nullopt;
  if (precision == "bf16" || precision == "fp8") return peak->bf16;
  if (precision == "tf32") return peak->tf32;
  if (precision == "fp32") return peak->fp32;
  return std::nullopt;
}

}  // namespace sluice::train
