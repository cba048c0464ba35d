#include "parallel/shared_memory.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <stdexcept>
#include <string>

#include "parallel/agree.h"
#include "parallel/thread_communicator.h"

namespace sluice::parallel {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

/// Of this process, whatever else runs here.
std::int64_t names_left() {
  const std::filesystem::path folder = "/dev/shm";
  if (!std::filesystem::exists(folder)) return 0;
  const std::string ours = "sluice-" + std::to_string(getpid()) + "-";
  return std::ranges::count_if(std::filesystem::directory_iterator(folder), [&](const auto& entry) {
    return entry.path().filename().string().starts_with(ours);
  });
}

TEST(SharedMemory, IsTheSameForAllRanksAndBeginsWithZeros) {
  run_thread_ranks(3, [](Communicator& ranks) {
    constexpr std::size_t kBytes = 100'000;
    for (int round = 0; round < 2; ++round) {
      const SharedMemory memory(ranks, kBytes);
      ASSERT_EQ(memory.bytes(), kBytes);
      EXPECT_TRUE(std::all_of(memory.begin(), memory.begin() + kBytes,
                              [](std::byte one) { return one == std::byte{0}; }));
      ranks.barrier();
      for (std::size_t at = 0; at < kBytes / 3; ++at)
        memory.begin()[3 * at + static_cast<std::size_t>(ranks.rank())] =
            static_cast<std::byte>(ranks.rank() + 1);
      ranks.barrier();
      for (std::size_t at = 0; at < kBytes / 3 * 3; ++at)
        ASSERT_EQ(memory.begin()[at], static_cast<std::byte>(at % 3 + 1));
      ranks.barrier();
    }
  });
  EXPECT_EQ(names_left(), 0);
}

TEST(SharedMemory, SaysWhatTheHostHasNoRoomForOnAllRanks) {
  run_thread_ranks(2, [](Communicator& ranks) {
    constexpr std::size_t kTooMuch = std::size_t{1} << 60U;
    try {
      const SharedMemory memory(ranks, kTooMuch);
      ADD_FAILURE() << "there is no such memory";
    } catch (const std::runtime_error& error) {
      EXPECT_THAT(error.what(), AllOf(HasSubstr("/dev/shm"), HasSubstr(std::to_string(kTooMuch))));
      EXPECT_EQ(dynamic_cast<const PeerError*>(&error) != nullptr, ranks.rank() == 1);
    }
  });
  EXPECT_EQ(names_left(), 0);
}

}  // namespace
}  // namespace sluice::parallel
