#include <ATen/ops/empty.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/randn.h>
#include <gtest/gtest.h>

#include <chrono>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <thread>

#include "parallel/device.h"
#include "parallel/device_memory.h"
#include "parallel/device_stream.h"
#include "parallel/gpu_tools.h"
#include "parallel/nvml.h"
#include "parallel/trace_range.h"
#include "tests/support/gpu.h"
#include "tests/unit/dataio/scratch.h"
#include "trainer/kernels/peak.h"
#include "trainer/train/datasheet.h"
#include "trainer/train/peaks.h"
#include "trainer/train/profile.h"

namespace sluice::tests {
namespace {

const c10::Device kGpu(c10::kCUDA, 0);

TEST(Peak, OfEachPrecisionIsNearTheDataSheetAndNotAboveIt) {
  SLUICE_NEEDS_GPU();
  const std::string name = parallel::device_name(kGpu);
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

/// That a trace has what the steps of this test do; prints what it has.
void expect_steps_in_trace(const std::filesystem::path& file, int steps) {
  std::ifstream in(file);
  const auto trace = nlohmann::json::parse(in);
  std::map<std::string, int> by_category;
  int ranges = 0;
  for (const auto& event : trace.at("traceEvents")) {
    ++by_category[event.value("cat", "none")];
    if (event.value("cat", "") == "user_annotation" && event.value("name", "") == "step") ++ranges;
  }
  for (const auto& [category, count] : by_category) std::printf("%s: %d events\n", category.c_str(), count);
  EXPECT_EQ(ranges, steps);
  EXPECT_GE(by_category["kernel"], 2 * steps) << "two products a step";
  EXPECT_GE(by_category["cuda_runtime"] + by_category["cuda_driver"], steps);
}

/// The products of a step, and products of a step in a captured graph that was captured before the profiler
/// looked.
TEST(Profile, SeesTheKernelsOfReplayedGraphs) {
  SLUICE_NEEDS_GPU();
  parallel::enter_device(kGpu);
  const auto kind = at::TensorOptions().dtype(at::kBFloat16).device(kGpu);
  const at::Tensor square = at::randn({4096, 4096}, kind);
  at::Tensor product = at::empty({4096, 4096}, kind);
  const auto work = [&](const std::function<void()>& /*mark*/) {
    for (int i = 0; i < 2; ++i) at::mm_out(product, square, square);
  };
  work({});  // cuBLAS sets itself up outside the capture
  parallel::DeviceGraph graph;
  graph.capture(work);
  const dataio::Scratch scratch;
  const auto file = scratch.path() / "trace.json";
  train::Profile profile({.file = file, .skip = 2, .steps = 4}, kGpu);
  for (int step = 0; step < 8; ++step) {
    profile.before_step();
    const parallel::TraceRange range("step");
    graph.replay({});
  }
  profile.finish();
  ASSERT_TRUE(profile.written());
  expect_steps_in_trace(file, 4);
}

}  // namespace
}  // namespace sluice::tests
