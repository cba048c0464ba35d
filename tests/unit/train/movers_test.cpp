#include "trainer/train/movers.h"

#include <gtest/gtest.h>

#include "parallel/thread_communicator.h"
#include "trainer/model/flops.h"
#include "trainer/model/parameters.h"

namespace sluice::train {
namespace {

constexpr std::int64_t kVocabulary = 32000;
constexpr double kPeak = 700e12;                // FLOP/s
constexpr double kSecondsPerByte = 0.5 / 36e9;  // of two ranks, each of which brings half

RunOptions base(std::int64_t micro_batch) {
  RunOptions options;
  options.model.layers = 48;
  options.model.d_model = 512;
  options.model.d_ffn = 3072;
  options.model.seq_len = 512;
  options.model.tied = true;
  options.train.micro_batch = micro_batch;
  options.parallel.zero = 1;
  return options;
}

TEST(HostMemoryLoad, IsThatCountedByHand) {
  const RunOptions options = base(64);
  const HostMemoryLoad load = host_memory_load(options, kVocabulary, 1e-9, 1e12);
  const auto parameters =
      static_cast<double>(model::parameter_count(model::parameter_specs(options.model, kVocabulary)));
  const double per_token = model::count_flops(options.model, kVocabulary).useful_per_token;
  EXPECT_DOUBLE_EQ(load.exchange_s, 4 * parameters * 1e-9);
  EXPECT_DOUBLE_EQ(load.backward_s, 2.0 / 3 * 64 * 512 * per_token / 0.6e12);
}

/// As they were measured: B64 was the faster that way, B32 was not, nor one of several short micro-batches,
/// which hide no more.
TEST(HostMemoryLoad, IsLightWhereMuchIsComputedForAnExchange) {
  const auto is_light = [](const RunOptions& options) {
    return host_memory_load(options, kVocabulary, kSecondsPerByte, kPeak).is_light();
  };
  EXPECT_TRUE(is_light(base(64)));
  EXPECT_FALSE(is_light(base(32)));
  RunOptions accumulating = base(16);
  accumulating.train.global_batch = 128;
  EXPECT_FALSE(is_light(accumulating));
  RunOptions short_sequences = base(256);
  short_sequences.model.seq_len = 128;
  EXPECT_TRUE(is_light(short_sequences));
  RunOptions long_sequences = base(8);  // large W
  long_sequences.model.layers = 16;
  long_sequences.model.seq_len = 4096;
  EXPECT_FALSE(is_light(long_sequences));
}

TEST(ConnectRanks, LeavesCpuRanksAsTheyAre) {
  parallel::run_thread_ranks(2, [](parallel::Communicator& world) {
    DeviceGroup group("cpu", world);
    EXPECT_EQ(connect_ranks(group, base(64), kVocabulary), "") << "nothing to choose";
    EXPECT_EQ(&group.exchange(), &world);
    EXPECT_EQ(moved_by(group.exchange()), world.name());
  });
}

}  // namespace
}  // namespace sluice::train
