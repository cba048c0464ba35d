#include <ATen/ops/empty.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/randn.h>
#include <gtest/gtest.h>

#include <chrono>
#include <cstdio>
#include <thread>

#include "parallel/device_memory.h"
#include "parallel/device_stream.h"
#include "parallel/gpu_tools.h"
#include "parallel/nvml.h"
#include "tests/support/gpu.h"
#include "trainer/kernels/peak.h"
#include "trainer/train/datasheet.h"
#include "trainer/train/peaks.h"

namespace sluice::tests {
namespace {

const c10::Device kGpu(c10::kCUDA, 0);

TEST(Peak, OfEachPrecisionIsNearTheDataSheetAndNotAboveIt) {
  SLUICE_NEEDS_GPU();
  const std::string name = train::device_name(kGpu);
  std::printf("GPU \"%s\"\n", name.c_str());
  struct Kind {
    const char* precision;
    kernels::Arithmetic arithmetic;
    double least;  ///< FLOP/s that any GPU of a data centre reaches
  };
  for (const Kind& kind :
       {Kind{"bf16", kernels::Arithmetic::kBf16, 50e12}, Kind{"tf32", kernels::Arithmetic::kTf32, 25e12},
        Kind{"fp32", kernels::Arithmetic::kFp32, 5e12}}) {
    const auto rate = kernels::measure_gemm(kind.arithmetic, {8192, 8192, 8192}, kGpu, 0.2);
    std::printf("%s: %.1f TFLOP/s median, %.1f best of %lld\n", kind.precision, 1e-12 * rate.flops_per_s,
                1e-12 * rate.best_flops_per_s, static_cast<long long>(rate.repetitions));
    EXPECT_GT(rate.flops_per_s, kind.least) << kind.precision;
    if (const auto datasheet = train::datasheet_peak(name, kind.precision)) {
      EXPECT_LT(rate.flops_per_s, 1.05 * *datasheet) << kind.precision;
      EXPECT_GT(rate.flops_per_s, 0.4 * *datasheet) << kind.precision;
    }
  }
}

TEST(Peak, OfCopiesIsThatOfDeviceMemory) {
  SLUICE_NEEDS_GPU();
  const double rate = kernels::measure_copy(std::int64_t{1} << 30, kGpu, 0.2);
  std::printf("copy: %.0f GB/s\n", 1e-9 * rate);
  EXPECT_GT(rate, 200e9);
  EXPECT_LT(rate, 20e12);
}

TEST(DeviceMemory, PeaksFollowAllocationAndReset) {
  SLUICE_NEEDS_GPU();
  constexpr std::int64_t kMiB = 1 << 20;
  const auto bytes = at::TensorOptions().dtype(at::kByte).device(kGpu);
  (void)at::empty({1}, bytes);
  parallel::release_cached_memory();
  parallel::reset_peak_memory(kGpu);
  const auto before = parallel::peak_memory(kGpu);
  { const at::Tensor large = at::empty({256 * kMiB}, bytes); }
  const auto after = parallel::peak_memory(kGpu);
  EXPECT_GE(after.allocated_peak - before.allocated_peak, 256 * kMiB);
  EXPECT_GE(after.reserved_peak, after.allocated_peak);
  parallel::release_cached_memory();
  parallel::reset_peak_memory(kGpu);
  EXPECT_LT(parallel::peak_memory(kGpu).allocated_peak, 256 * kMiB);
  EXPECT_LT(parallel::peak_memory(kGpu).reserved_peak, 256 * kMiB);
}

TEST(PowerMeter, CountsTheEnergyOfWork) {
  SLUICE_NEEDS_GPU();
  const std::string address = parallel::pci_bus_id(0);
  std::printf("PCI bus id \"%s\"\n", address.c_str());
  EXPECT_FALSE(address.empty());
  const auto meter = parallel::PowerMeter::open(address);
  if (!meter || !meter->energy_j()) GTEST_SKIP() << "NVML is not there, or counts no energy on this GPU";
  const double before = *meter->energy_j();
  const auto start = std::chrono::steady_clock::now();
  (void)kernels::measure_gemm(kernels::Arithmetic::kBf16, {8192, 8192, 8192}, kGpu, 1.0);
  std::this_thread::sleep_for(std::chrono::milliseconds(200));  // the counter moves in steps of up to 100 ms
  const double used = *meter->energy_j() - before;
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  std::printf("%.1f J in %.2f s; now %.1f W\n", used, seconds, meter->power_w().value_or(-1));
  EXPECT_GT(used, 10.0 * seconds);
  EXPECT_LT(used, 3000.0 * seconds);
}

}  // namespace
}  // namespace sluice::tests
