#include "dataio/mixed_order.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <cmath>
#include <cstdint>
#include <limits>
#include <numeric>
#include <stdexcept>
#include <string>
#include <vector>

namespace sluice::dataio {
namespace {

Order order_of(std::int64_t samples, std::uint64_t seed) {
  constexpr std::int64_t kSeqLen = 4;
  return {{samples * kSeqLen + 1, kSeqLen, WindowMode::kSequential}, seed};
}

MixedOrder mixture_of(const std::vector<double>& weights, std::uint64_t seed = 1) {
  std::vector<Order> orders;
  for (std::size_t part = 0; part < weights.size(); ++part) {
    orders.push_back(order_of(10 + 7 * static_cast<std::int64_t>(part), seed));
  }
  return {orders, weights};
}

std::string pattern_of(const MixedOrder& order, std::int64_t count) {
  std::string parts;
  for (std::int64_t i = 0; i < count; ++i) parts += static_cast<char>('a' + order.sample(i).part);
  return parts;
}

TEST(MixedOrder, PatternOfKnownWeights) {
  EXPECT_EQ(pattern_of(mixture_of({1, 1}), 8), "babababa");
  EXPECT_EQ(pattern_of(mixture_of({0.75, 0.25}), 8), "baaabaaa");
  EXPECT_EQ(pattern_of(mixture_of({2, 1, 1}), 8), "cabacaba");
}

RC_GTEST_PROP(MixedOrder, EachPartHasItsShareAndItsOwnOrder, ()) {
  const auto parts = *rc::gen::inRange<std::size_t>(1, 6);
  const auto weights = *rc::gen::container<std::vector<double>>(
      parts,
      rc::gen::map(rc::gen::inRange(1, 1000), [](int weight) { return static_cast<double>(weight) / 7; }));
  const auto mixed = mixture_of(weights, *rc::gen::arbitrary<std::uint64_t>());
  const double all = std::accumulate(weights.begin(), weights.end(), 0.0);
  std::vector<std::int64_t> seen(parts, 0);
  for (std::int64_t i = 0; i < 2000; ++i) {
    const MixedSample sample = mixed.sample(i);
    const auto part = static_cast<std::size_t>(sample.part);
    const Window own = mixed.orders()[part].window(seen[part]++);
    RC_ASSERT(sample.window.begin == own.begin && sample.window.end == own.end);
    for (std::size_t other = 0; other < parts; ++other) {
      const double share = weights[other] / all * static_cast<double>(i + 1);
      RC_ASSERT(std::abs(static_cast<double>(seen[other]) - share) < static_cast<double>(other) + 1.001);
    }
  }
}

TEST(MixedOrder, OnePartIsItsOrder) {
  const Order order = order_of(100, 3);
  const MixedOrder mixed(order);
  for (const std::int64_t i : {0, 1, 99, 100, 12345}) {
    EXPECT_EQ(mixed.sample(i).part, 0);
    EXPECT_EQ(mixed.sample(i).window.begin, order.window(i).begin);
  }
}

TEST(MixedOrder, SharesAreThoseOfTheWeightsInAnyUnit) {
  EXPECT_EQ(mixture_shares({3}), (std::vector<std::uint64_t>{std::uint64_t{1} << 32}));
  EXPECT_EQ(mixture_shares({1, 1, 2}),
            (std::vector<std::uint64_t>{1U << 30, 1431655765, std::uint64_t{1} << 32}));
  EXPECT_EQ(mixture_shares({70, 30}), mixture_shares({0.7, 0.3}));
  EXPECT_NE(mixture_shares({30, 70}), mixture_shares({0.7, 0.3}));
}

TEST(MixedOrder, IndicesFarAwayAreAsGood) {
  const MixedOrder mixed = mixture_of({0.3, 0.7});
  const std::int64_t far = std::numeric_limits<std::int64_t>::max() - 1000;
  std::int64_t first = 0;
  for (std::int64_t i = far; i < far + 1000; ++i) first += mixed.sample(i).part == 0 ? 1 : 0;
  EXPECT_NEAR(static_cast<double>(first), 300, 1);
}

TEST(MixedOrder, RefusesWhatIsNoMixture) {
  const Order order = order_of(10, 1);
  EXPECT_THROW(MixedOrder({}, {}), std::invalid_argument);
  EXPECT_THROW(MixedOrder({order}, {1, 1}), std::invalid_argument);
  EXPECT_THROW(MixedOrder({order, order}, {1, 0}), std::invalid_argument);
  EXPECT_THROW(MixedOrder({order, order}, {1, -1}), std::invalid_argument);
  constexpr double kHuge = std::numeric_limits<double>::max();
  EXPECT_THROW((void)mixture_shares({kHuge, kHuge}), std::invalid_argument);
  EXPECT_THROW((void)mixture_shares({std::nan(""), 1}), std::invalid_argument);
  EXPECT_THROW(MixedOrder({order, Order({100, 5, WindowMode::kSequential}, 1)}, {1, 1}),
               std::invalid_argument);
  EXPECT_THROW((void)MixedOrder(order).sample(-1), std::invalid_argument);
}

}  // namespace
}  // namespace sluice::dataio
