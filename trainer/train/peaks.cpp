#include "trainer/train/peaks.h"

#include <c10/util/Exception.h>

#include <nlohmann/json.hpp>
#include <vector>

#include "parallel/agree.h"
#include "parallel/device.h"
#include "trainer/kernels/peak.h"
#include "trainer/train/datasheet.h"

namespace sluice::train {
namespace {

constexpr double kBudgetS = 0.1;

}  // namespace

kernels::Arithmetic arithmetic_of(const std::string& precision) {
  if (precision == "bf16" || precision == "fp8") return kernels::Arithmetic::kBf16;
  if (precision == "tf32") return kernels::Arithmetic::kTf32;
  if (precision == "fp64") return kernels::Arithmetic::kFp64;
  TORCH_CHECK(precision == "fp32", "no peak for precision ", precision);
  return kernels::Arithmetic::kFp32;
}

Peaks find_peaks(const c10::Device& device, const std::string& precision, parallel::Communicator& world) {
  nlohmann::json own;
  parallel::on_all_ranks(world, [&] {
    if (world.rank() != 0) return;
    const auto rate = kernels::measure_gemm(arithmetic_of(precision), kernels::large_gemms(device).front(),
                                            device, kBudgetS);
    own = {parallel::device_name(device), rate.flops_per_s};
  });
  const auto shared = nlohmann::json::parse(world.broadcast(own.dump(), 0));
  Peaks peaks{.device = shared.at(0), .measured = shared.at(1).get<double>(), .datasheet = {}};
  peaks.datasheet = datasheet_peak(peaks.device, precision);
  return peaks;
}

}  // namespace sluice::train
