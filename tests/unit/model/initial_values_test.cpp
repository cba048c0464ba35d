#include "trainer/model/initial_values.h"

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/Parallel.h>
#include <ATen/ops/allclose.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/equal.h>
#include <gtest/gtest.h>
#include <xxhash.h>

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <functional>
#include <map>
#include <string>
#include <vector>

namespace sluice::model {
namespace {

using Kind = Initialiser::Kind;

constexpr std::int64_t kBlock = InitialValues::kBlock;
constexpr std::uint64_t kSeed = 123456789012345;
const std::string kName = "blocks.3.expand.weight";

ParameterSpec spec_of(Kind kind, std::int64_t numel) {
  return {.name = kName,
          .shape = {numel},
          .decay = WeightDecay::kApply,
          .init = {.kind = kind, .scale = 0.0217, .draw_name = kName}};
}

at::Tensor part_of(const InitialValues& values, std::int64_t begin, std::int64_t end, at::ScalarType dtype) {
  const at::Tensor part = at::empty({end - begin}, at::TensorOptions().dtype(dtype));
  values.fill(begin, part);
  return part;
}

// What runs drew before these sources were written: their checkpoints' seeds stay good.
TEST(InitialValues, AreThoseOfLibTorch) {
  for (const std::int64_t numel :
       {std::int64_t{1}, std::int64_t{15}, std::int64_t{16}, std::int64_t{17}, std::int64_t{625}, kBlock - 1,
        kBlock, kBlock + 8, 2 * kBlock, 3 * kBlock + 16, std::int64_t{1'000'003}}) {
    SCOPED_TRACE(numel);
    const at::Generator generator =
        at::detail::createCPUGenerator(XXH3_64bits_withSeed(kName.data(), kName.size(), kSeed));
    const at::Tensor normal = at::empty({numel}, at::TensorOptions().dtype(at::kDouble));
    const at::Tensor uniform = normal.clone();
    normal.normal_(0.0, 0.0217, generator);
    EXPECT_TRUE(at::equal(initial_value(spec_of(Kind::kNormal, numel), kSeed, at::kDouble), normal));
    EXPECT_TRUE(
        at::equal(initial_value(spec_of(Kind::kNormal, numel), kSeed, at::kFloat), normal.to(at::kFloat)));
    uniform.uniform_(-0.0217, 0.0217,
                     at::detail::createCPUGenerator(XXH3_64bits_withSeed(kName.data(), kName.size(), kSeed)));
    // LibTorch's last bit of a sum of a product is the processor's.
    EXPECT_TRUE(at::allclose(initial_value(spec_of(Kind::kUniform, numel), kSeed, at::kDouble), uniform,
                             /*rtol=*/0, /*atol=*/1e-17));
  }
}

TEST(InitialValues, AreTheSameInPartsAndOnAnyNumberOfThreads) {
  const int threads = at::get_num_threads();
  for (const Kind kind : {Kind::kZeros, Kind::kOnes, Kind::kNormal, Kind::kUniform}) {
    for (const std::int64_t numel : {2 * kBlock, 2 * kBlock + 3, 2 * kBlock + 777}) {
      const InitialValues values(spec_of(kind, numel), kSeed);
      at::set_num_threads(1);
      const at::Tensor whole = part_of(values, 0, numel, at::kFloat);
      at::set_num_threads(3);
      EXPECT_TRUE(at::equal(part_of(values, 0, numel, at::kFloat), whole));
      EXPECT_TRUE(at::equal(part_of(values, 0, kBlock, at::kFloat), whole.narrow(0, 0, kBlock)));
      EXPECT_TRUE(
          at::equal(part_of(values, kBlock, numel, at::kFloat), whole.narrow(0, kBlock, numel - kBlock)));
      EXPECT_TRUE(at::equal(part_of(values, kBlock, 2 * kBlock, at::kDouble).to(at::kFloat),
                            whole.narrow(0, kBlock, kBlock)));
    }
  }
  at::set_num_threads(threads);
}

/// Nanoseconds on a core of each of this process's threads, as the kernel counts them.
std::map<std::string, std::int64_t> core_time() {
  std::map<std::string, std::int64_t> times;
  for (const auto& thread : std::filesystem::directory_iterator("/proc/self/task"))
    std::ifstream(thread.path() / "schedstat") >> times[thread.path().filename().string()];
  return times;
}

// Without OpenMP at::parallel_for is a loop, and nothing else would tell.
TEST(InitialValues, AreDrawnByAllThreads) {
  const int threads = at::get_num_threads();
  at::set_num_threads(2);
  const InitialValues values(spec_of(Kind::kNormal, 64 * kBlock), kSeed);
  const auto before = core_time();
  (void)part_of(values, 0, 64 * kBlock, at::kFloat);
  std::vector<std::int64_t> shares;
  for (const auto& [thread, time] : core_time()) {
    const auto was = before.find(thread);
    shares.push_back(time - (was == before.end() ? 0 : was->second));
  }
  std::ranges::sort(shares, std::greater());
  ASSERT_GE(shares.size(), 2U);
  EXPECT_GT(shares[1], shares[0] / 4);
  at::set_num_threads(threads);
}

TEST(InitialValues, RefusePartsThatAreNoWholeBlocks) {
  const InitialValues values(spec_of(Kind::kNormal, 2 * kBlock), kSeed);
  const auto refused = [&](std::int64_t begin, std::int64_t end) {
    EXPECT_THROW((void)part_of(values, begin, end, at::kFloat), c10::Error) << begin << " " << end;
  };
  refused(1, kBlock);
  refused(0, kBlock - 1);
  refused(kBlock, 3 * kBlock);
  EXPECT_THROW((void)part_of(values, 0, kBlock, at::kBFloat16), c10::Error);
}

}  // namespace
}  // namespace sluice::model
