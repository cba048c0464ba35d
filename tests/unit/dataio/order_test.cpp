#include "dataio/order.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <string>
#include <vector>

namespace sluice::dataio {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::vector<std::int64_t> epoch_samples(const Order& order, std::int64_t epoch) {
  std::vector<std::int64_t> samples;
  for (std::int64_t k = 0; k < order.samples_per_epoch(); ++k) {
    samples.push_back(order.window(epoch * order.samples_per_epoch() + k).sample);
  }
  return samples;
}

std::vector<std::int64_t> identity(std::int64_t count) {
  std::vector<std::int64_t> values(static_cast<std::size_t>(count));
  std::iota(values.begin(), values.end(), 0);
  return values;
}

RC_GTEST_PROP(Order, EveryEpochIsABijection, ()) {
  const auto samples = *rc::gen::inRange<std::int64_t>(1, 5000);
  const auto seq_len = *rc::gen::inRange<std::int64_t>(1, 9);
  const auto tail = *rc::gen::inRange<std::int64_t>(0, seq_len);
  const auto mode = *rc::gen::element(WindowMode::kSequential, WindowMode::kRandomOffset);
  const Order order({samples * seq_len + 1 + tail, seq_len, mode}, *rc::gen::arbitrary<std::uint64_t>());
  RC_ASSERT(order.samples_per_epoch() == samples);
  auto seen = epoch_samples(order, *rc::gen::inRange<std::int64_t>(0, 1000));
  std::ranges::sort(seen);
  RC_ASSERT(seen == identity(samples));
}

RC_GTEST_PROP(Order, SequentialWindowsHoldEachTokenOnceAsInput, ()) {
  const auto tokens = *rc::gen::inRange<std::int64_t>(10, 4000);
  const auto seq_len = *rc::gen::inRange<std::int64_t>(1, 10);
  const Order order({tokens, seq_len, WindowMode::kSequential}, *rc::gen::arbitrary<std::uint64_t>());
  std::vector<int> inputs(static_cast<std::size_t>(tokens), 0);
  for (std::int64_t k = 0; k < order.samples_per_epoch(); ++k) {
    const auto window = order.window(k);
    RC_ASSERT(window.end - window.begin == seq_len + 1);
    RC_ASSERT(window.begin >= 0 && window.end <= tokens);
    for (auto t = window.begin; t < window.end - 1; ++t) ++inputs[static_cast<std::size_t>(t)];
  }
  const auto covered = tokens - order.plan().dropped_tokens() - 1;  // the last token is only ever a target
  for (std::int64_t t = 0; t < tokens; ++t)
    RC_ASSERT(inputs[static_cast<std::size_t>(t)] == (t < covered ? 1 : 0));
}

RC_GTEST_PROP(Order, RandomOffsetsStayInBoundsAndNearTheirSample, ()) {
  const auto tokens = *rc::gen::inRange<std::int64_t>(10, 4000);
  const auto seq_len = *rc::gen::inRange<std::int64_t>(1, 10);
  const Order order({tokens, seq_len, WindowMode::kRandomOffset}, *rc::gen::arbitrary<std::uint64_t>());
  for (std::int64_t k = 0; k < 3 * order.samples_per_epoch(); ++k) {
    const auto window = order.window(k);
    RC_ASSERT(window.end - window.begin == seq_len + 1);
    RC_ASSERT(window.begin >= window.sample * seq_len && window.begin < (window.sample + 1) * seq_len);
    RC_ASSERT(window.end <= tokens);
  }
}

TEST(Order, RandomOffsetsTakeEveryValue) {
  const std::int64_t n = 16;
  const Order order({n * 4000 + 1, n, WindowMode::kRandomOffset}, 3);
  std::vector<std::int64_t> count(static_cast<std::size_t>(n), 0);
  for (std::int64_t k = 0; k < 4 * 4000; ++k) ++count[static_cast<std::size_t>(order.window(k).begin % n)];
  for (const auto c : count) EXPECT_NEAR(static_cast<double>(c), 1000.0, 200.0);  // six standard deviations
}

RC_GTEST_PROP(Slicing, EachSampleOfAnEpochOnceForAnyWorldAndMicroBatch, ()) {
  const auto world = *rc::gen::inRange<std::int64_t>(1, 10);
  const auto global = *rc::gen::inRange<std::int64_t>(1, 40);
  const auto micro = *rc::gen::inRange<std::int64_t>(1, 12);
  const auto epoch_samples_count = *rc::gen::inRange<std::int64_t>(1, 300);
  const Order order({epoch_samples_count + 1, 1, WindowMode::kSequential},
                    *rc::gen::arbitrary<std::uint64_t>());
  const std::int64_t steps =
      (2 * epoch_samples_count + global - 1) / global;  // batches cross the epoch's end
  std::vector<std::int64_t> consumed;
  for (std::int64_t step = 0; step < steps; ++step) {
    std::int64_t next = step * global;
    for (std::int64_t rank = 0; rank < world; ++rank) {
      const Slicing slicing{global, micro, world, rank};
      const auto slice = slicing.slice(step);
      RC_ASSERT(slice.first == next);
      RC_ASSERT(slice.count == global / world || slice.count == global / world + 1);
      for (std::int64_t m = 0; m < slicing.micro_batches(); ++m) {
        const auto part = slicing.micro_slice(step, m);
        RC_ASSERT(part.count >= 0 && part.count <= micro);
        if (part.count > 0) RC_ASSERT(part.first == next);
        for (std::int64_t k = 0; k < part.count; ++k) consumed.push_back(next++);
      }
      RC_ASSERT(next == slice.first + slice.count);
    }
  }
  RC_ASSERT(consumed == identity(steps * global));
  std::vector<int> first(static_cast<std::size_t>(epoch_samples_count), 0);
  for (std::int64_t k = 0; k < epoch_samples_count; ++k)
    ++first[static_cast<std::size_t>(order.window(k).sample)];
  RC_ASSERT(std::ranges::all_of(first, [](int c) { return c == 1; }));
}

/// Chi-square of where samples go: `cells` x `cells` table of (position, sample), both cut into equal runs.
double chi_square(const std::vector<std::int64_t>& samples, std::int64_t cells) {
  std::vector<double> table(static_cast<std::size_t>(cells * cells), 0);
  const auto count = std::ssize(samples);
  for (std::int64_t k = 0; k < count; ++k) {
    const auto row = k * cells / count;
    const auto column = samples[static_cast<std::size_t>(k)] * cells / count;
    ++table[static_cast<std::size_t>(row * cells + column)];
  }
  const double expected = static_cast<double>(count) / static_cast<double>(cells * cells);
  double sum = 0;
  for (const auto found : table) sum += (found - expected) * (found - expected) / expected;
  return sum;
}

TEST(Order, SamplesSpreadEvenlyAndNeighboursPart) {
  for (const std::int64_t count : {1000, 4096, 4097, 100'000}) {
    for (std::uint64_t seed = 0; seed < 20; ++seed) {
      const Order order({count + 1, 1, WindowMode::kSequential}, seed);
      const auto samples = epoch_samples(order, static_cast<std::int64_t>(seed % 3));
      // 81 degrees of freedom for a 10 x 10 table with fixed margins: mean 81, standard deviation 12.7.
      EXPECT_LT(chi_square(samples, 10), 81 + 5 * 12.7) << count << " seed " << seed;
      EXPECT_GT(chi_square(samples, 10), 81 - 5 * 12.7) << count << " seed " << seed;
      std::int64_t neighbours = 0;
      for (std::size_t k = 1; k < samples.size(); ++k)
        neighbours += std::abs(samples[k] - samples[k - 1]) == 1 ? 1 : 0;
      EXPECT_LE(neighbours, 14) << count << " seed " << seed;  // Poisson with mean 2
    }
  }
}

TEST(Order, EpochsAndSeedsAreUnlike) {
  const std::int64_t count = 1000;
  const Order order({count + 1, 1, WindowMode::kSequential}, 1);
  const Order other({count + 1, 1, WindowMode::kSequential}, 2);
  const auto base = epoch_samples(order, 0);
  const auto fixed_places = [&](const std::vector<std::int64_t>& samples) {
    std::int64_t same = 0;
    for (std::size_t k = 0; k < samples.size(); ++k) same += samples[k] == base[k] ? 1 : 0;
    return same;
  };
  EXPECT_LE(fixed_places(epoch_samples(order, 1)), 8);  // Poisson with mean 1
  EXPECT_LE(fixed_places(epoch_samples(other, 0)), 8);
  EXPECT_LE(fixed_places(epoch_samples(other, 1)), 8);
  EXPECT_LE(fixed_places(identity(count)), 8);
}

TEST(Order, SmallEpochsTakeEveryPermutation) {
  std::vector<std::int64_t> count(6, 0);
  for (std::int64_t epoch = 0; epoch < 6000; ++epoch) {
    const auto samples = epoch_samples(Order({4, 1, WindowMode::kSequential}, 11), epoch);
    ++count[static_cast<std::size_t>(samples[0] * 2 + (samples[1] > samples[2] ? 1 : 0))];
  }
  for (const auto c : count) EXPECT_NEAR(static_cast<double>(c), 1000.0, 200.0);
}

TEST(Order, GoldenVector) {
  // Runs resume and ledgers are read by this order: if this test fails, the change is wrong, not the test.
  const auto begins = [](const Order& order, std::int64_t first) {
    std::vector<std::int64_t> places;
    for (std::int64_t k = 0; k < 6; ++k) places.push_back(order.window(first + k).begin);
    return places;
  };
  const Order sequential({1'000'000'007, 512, WindowMode::kSequential}, 42);
  EXPECT_THAT(begins(sequential, 0),
              ElementsAre(749222912, 823001600, 751512064, 724414976, 502991872, 70788096));
  EXPECT_THAT(begins(sequential, 3 * sequential.samples_per_epoch() - 3),
              ElementsAre(705183232, 437258752, 586357760, 269720576, 63119872, 939015680));
  const Order small({40'001, 40, WindowMode::kSequential}, 7);  // 1000 samples: halves of 5 bits
  EXPECT_THAT(begins(small, 0), ElementsAre(360, 13160, 26960, 20920, 8960, 2840));
  const Order random({100'000, 128, WindowMode::kRandomOffset}, 0);
  EXPECT_THAT(begins(random, 0), ElementsAre(10621, 75293, 17366, 61928, 6951, 20105));
}

TEST(Order, NumbersNameWhatIsTooSmall) {
  try {
    const Order order({100, 128, WindowMode::kSequential}, 1);
    FAIL();
  } catch (const std::invalid_argument& error) {
    EXPECT_THAT(error.what(), HasSubstr("100 tokens, fewer than one window of 129"));
  }
  EXPECT_THROW(Order({100, 0, WindowMode::kSequential}, 1), std::invalid_argument);
  EXPECT_THROW((void)Order({100, 9, WindowMode::kSequential}, 1).window(-1), std::invalid_argument);
  EXPECT_EQ(Order({129, 128, WindowMode::kRandomOffset}, 1).window(5).begin, 0);
  EXPECT_EQ((WindowPlan{100, 128, WindowMode::kSequential}.dropped_tokens()), 100);
  EXPECT_EQ((WindowPlan{300, 128, WindowMode::kSequential}.dropped_tokens()), 300 - 257);
}

}  // namespace
}  // namespace sluice::dataio
