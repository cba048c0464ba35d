#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "trainer/kernels/device_update.h"
#include "trainer/train/replica.h"

namespace sluice::train {
namespace {

constexpr std::int64_t kBlock = kernels::kDecayBlock;

model::ModelOptions options_of(std::int64_t positions) {
  model::ModelOptions options;
  options.layers = 2;
  options.d_model = 8;
  options.d_ffn = 24;
  options.seq_len = positions;
  return options;
}

std::vector<int> marks(const Replica& replica, const std::vector<optim::Range>& ranges) {
  std::vector<int> counts(static_cast<std::size_t>(replica.layout().size()));
  for (const optim::Range& range : ranges)
    for (std::int64_t at = range.begin; at < range.end; ++at) ++counts[static_cast<std::size_t>(at)];
  return counts;
}

/// Rows of W that begin at blocks of an update, and rows that do not.
TEST(IdleRanges, AreTheWholeBlocksAboveTheDiagonal) {
  for (const auto& [positions, heads] : std::vector<std::pair<std::int64_t, std::int64_t>>{
           {1, 1}, {7, 1}, {64, 1}, {80, 1}, {100, 1}, {64, 3}, {100, 2}}) {
    model::ModelOptions options = options_of(positions);
    options.spatial_heads = heads;
    const Replica replica(options, 40, at::kFloat, ReplicaUse::kInference);
    const std::vector<int> idle = marks(replica, replica.idle_ranges());
    const std::vector<int> decayed = marks(replica, replica.decayed_ranges());
    std::vector<int> unread = idle;
    for (const std::int64_t at : replica.unread_in_read_blocks()) ++unread[static_cast<std::size_t>(at)];
    std::int64_t expected = 0;
    for (const auto& entry : replica.layout().entries()) {
      if (entry.name.find("sgu.weight") == std::string::npos) continue;
      for (std::int64_t at = 0; at < entry.numel; ++at) {
        const auto above = [&](std::int64_t element) {
          return element % positions > element / positions % positions;
        };
        const std::int64_t first = (entry.offset + at) / kBlock * kBlock - entry.offset;
        bool all_above = first >= 0 && first + kBlock <= entry.numel;
        for (std::int64_t one = first; all_above && one < first + kBlock; ++one)
          all_above = above(one) && one / positions == first / positions;
        const auto place = static_cast<std::size_t>(entry.offset + at);
        EXPECT_EQ(idle[place], all_above ? 1 : 0) << positions << " " << at;
        EXPECT_EQ(decayed[place], all_above ? 0 : 1) << positions << " " << at;
        EXPECT_EQ(unread[place], above(at) ? 1 : 0) << positions << " " << at;
        expected += all_above ? 1 : 0;
      }
    }
    EXPECT_EQ(std::count(idle.begin(), idle.end(), 1), expected) << positions;
    EXPECT_EQ(expected > 0, positions >= 64) << positions;
  }
}

TEST(IdleRanges, AreNoneWhereAllPositionsAreSeen) {
  model::ModelOptions options = options_of(64);
  options.causal = false;
  const Replica replica(options, 40, at::kFloat, ReplicaUse::kInference);
  EXPECT_TRUE(replica.idle_ranges().empty());
}

}  // namespace
}  // namespace sluice::train
