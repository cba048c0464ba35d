#include "dataio/loader.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <filesystem>
#include <thread>

#include "dataio/error.h"
#include "dataio/loader_benchmark.h"
#include "tests/unit/dataio/corpus_fixture.h"

namespace sluice::dataio::testing {
namespace {

using std::chrono::microseconds;
using ::testing::HasSubstr;

constexpr std::int64_t kVocabulary = 300;

std::shared_ptr<SplitReader> reader_of(const SplitLayout& split, microseconds delay = microseconds{0}) {
  ReaderOptions options;
  options.injected_delay = delay;
  return std::make_shared<SplitReader>(split, kVocabulary, options);
}

Order order_of(const SplitLayout& split, std::int64_t seq_len, std::uint64_t seed = 1) {
  return Order({split.tokens, seq_len, WindowMode::kSequential}, seed);
}

/// Whether a batch is what the order and the slicing say, row by row.
::testing::AssertionResult is_right(const Batch& batch, const Order& order, const Slicing& slicing,
                                    std::int64_t step, std::int64_t micro) {
  const auto width = order.plan().seq_len + 1;
  const auto expected = slicing.micro_slice(step, micro);
  if (batch.step != step || batch.micro != micro || batch.rows != expected.count ||
      batch.samples.first != expected.first || batch.samples.count != expected.count ||
      std::ssize(batch.tokens) != slicing.micro_batch * width) {
    return ::testing::AssertionFailure() << "head of step " << batch.step << " micro " << batch.micro
                                         << ", expected " << step << " " << micro;
  }
  for (std::int64_t row = 0; row < slicing.micro_batch; ++row) {
    const auto found =
        batch.tokens.subspan(static_cast<std::size_t>(row * width), static_cast<std::size_t>(width));
    const auto right = row < batch.rows
                           ? tokens_from(order.window(expected.first + row).begin, width, kVocabulary)
                           : std::vector<std::int32_t>(static_cast<std::size_t>(width), 0);
    if (!std::ranges::equal(found, right)) {
      return ::testing::AssertionFailure() << "step " << step << " micro " << micro << " row " << row;
    }
  }
  return ::testing::AssertionSuccess();
}

RC_GTEST_PROP(Loader, DeliversWhatOrderAndSlicingSay, ()) {
  static const Scratch dir;
  static const auto split = write_split(dir.path(), {1000, 300, 2000}, kVocabulary);
  Slicing slicing;
  slicing.global_batch = *rc::gen::inRange<std::int64_t>(1, 30);
  slicing.micro_batch = *rc::gen::inRange<std::int64_t>(1, 10);
  slicing.world_size = *rc::gen::inRange<std::int64_t>(1, 8);
  slicing.rank = *rc::gen::inRange<std::int64_t>(0, slicing.world_size);
  LoaderOptions options;
  options.ring_batches = *rc::gen::inRange<std::int64_t>(1, 5);
  options.reader_threads = *rc::gen::inRange<std::int64_t>(1, 6);
  const auto delay = *rc::gen::element(microseconds{0}, microseconds{0}, microseconds{100});
  const auto order =
      order_of(split, *rc::gen::inRange<std::int64_t>(1, 40), *rc::gen::arbitrary<std::uint64_t>());
  const auto first = *rc::gen::inRange<std::int64_t>(0, 500);  // far beyond the first epoch too
  Loader loader(reader_of(split, delay), order, slicing, options, first);
  for (auto step = first; step < first + 5; ++step) {
    for (std::int64_t micro = 0; micro < slicing.micro_batches(); ++micro) {
      RC_ASSERT(is_right(loader.next(), order, slicing, step, micro));
    }
  }
}

RC_GTEST_PROP(Loader, ReadsEachSampleOfAMixtureFromItsPart, ()) {
  constexpr std::int64_t kOtherVocabulary = 200;  // other tokens at the same places
  static const Scratch dir, other_dir;
  static const auto split = write_split(dir.path(), {1000, 300}, kVocabulary);
  static const auto other = write_split(other_dir.path(), {500}, kOtherVocabulary);
  const std::int64_t width = 1 + *rc::gen::inRange<std::int64_t>(1, 40);
  const MixedOrder order({order_of(split, width - 1), order_of(other, width - 1)},
                         {*rc::gen::inRange(1, 9) / 10.0, 0.3});
  Slicing slicing{.global_batch = *rc::gen::inRange<std::int64_t>(1, 30),
                  .micro_batch = *rc::gen::inRange<std::int64_t>(1, 10),
                  .world_size = *rc::gen::inRange<std::int64_t>(1, 4)};
  slicing.rank = *rc::gen::inRange<std::int64_t>(0, slicing.world_size);
  Loader loader({reader_of(split), reader_of(other)}, order, slicing, {}, 3);
  for (std::int64_t i = 0; i < 5 * slicing.micro_batches(); ++i) {
    const Batch batch = loader.next();
    for (std::int64_t row = 0; row < batch.rows; ++row) {
      const auto [part, window] = order.sample(batch.samples.first + row);
      const auto found =
          batch.tokens.subspan(static_cast<std::size_t>(row * width), static_cast<std::size_t>(width));
      RC_ASSERT(std::ranges::equal(
          found, tokens_from(window.begin, width, part == 0 ? kVocabulary : kOtherVocabulary)));
    }
  }
}

TEST(Loader, SeekGoesAnywhereWithAFullRing) {
  const Scratch dir;
  const auto split = write_split(dir.path(), {5000}, kVocabulary);
  const auto order = order_of(split, 16);
  const Slicing slicing{12, 4, 2, 1};
  for (const auto delay : {microseconds{0}, microseconds{300}}) {
    Loader loader(reader_of(split, delay), order, slicing, {}, 0);
    for (const std::int64_t step : {0, 7, 3, 3, 1000, 0, 12}) {
      loader.seek(step);
      EXPECT_TRUE(is_right(loader.next(), order, slicing, step, 0));
      EXPECT_TRUE(is_right(loader.next(), order, slicing, step, 1));
      EXPECT_TRUE(
          is_right(loader.next(), order, slicing, step + 1, 0));  // and leaves micro-batch 1 in the ring
    }
    EXPECT_THROW(loader.seek(-1), std::invalid_argument);
  }
}

TEST(Loader, ALeaseKeepsItsBatchWhateverElseHappens) {
  const Scratch dir;
  const auto split = write_split(dir.path(), {5000}, kVocabulary);
  const auto order = order_of(split, 16);
  const Slicing slicing{70, 70, 1, 0};
  LoaderOptions options;
  options.ring_batches = 3;
  options.reader_threads = 4;
  auto loader = std::make_unique<Loader>(reader_of(split), order, slicing, options, 0);
  std::vector<Batch> held;
  EXPECT_THROW(while (held.size() < 1000) held.push_back(loader->next()), std::logic_error)
      << "the ring is bounded";
  ASSERT_GE(held.size(), 3U);
  const auto last = held.back().step;
  held.erase(held.begin() + 1);  // out of order
  held.push_back(loader->next());
  EXPECT_TRUE(is_right(held.back(), order, slicing, last + 1, 0));
  loader->seek(40);
  EXPECT_TRUE(is_right(held.front(), order, slicing, 0, 0));
  loader.reset();
  EXPECT_TRUE(is_right(held[1], order, slicing, 2, 0));
}

TEST(Loader, RowsAreMadeOfWindowsWhereAFormSaysSo) {
  const Scratch dir;
  const auto split = write_split(dir.path(), {5000}, kVocabulary);
  const auto order = order_of(split, 16);
  const Slicing slicing{7, 3, 1, 0};
  LoaderOptions options;
  options.form = {.width = 3,
                  .make = [](std::int64_t sample, std::span<const std::int32_t> window, auto row) {
                    row[0] = static_cast<std::int32_t>(sample);
                    row[1] = window.front();
                    row[2] = window.back();
                  }};
  Loader loader(reader_of(split), order, slicing, options, 0);
  for (std::int64_t micro = 0; micro < 3; ++micro) {
    const Batch batch = loader.next();
    ASSERT_EQ(batch.tokens.size(), 9U);
    for (std::int64_t row = 0; row < 3; ++row) {
      const std::int64_t sample = batch.samples.first + row;
      const auto window = tokens_from(order.window(sample).begin, 17, kVocabulary);
      const auto right = row < batch.rows ? std::vector<std::int32_t>{static_cast<std::int32_t>(sample),
                                                                      window.front(), window.back()}
                                          : std::vector<std::int32_t>{0, 0, 0};
      EXPECT_TRUE(std::ranges::equal(batch.tokens.subspan(static_cast<std::size_t>(3 * row), 3), right));
    }
  }
  options.form.make = nullptr;
  EXPECT_THROW(Loader(reader_of(split), order, slicing, options, 0), std::invalid_argument);
}

TEST(Loader, TheRingIsOnePieceOfGivenMemory) {
  const Scratch dir;
  const auto split = write_split(dir.path(), {50'000}, kVocabulary);
  std::vector<std::size_t> sizes;
  LoaderOptions options;
  options.ring_batches = 3;
  options.reader_threads = 2;
  std::shared_ptr<void> memory;
  options.allocate = [&](std::size_t bytes) {
    sizes.push_back(bytes);
    return memory = std::shared_ptr<void>(new char[bytes], [](void* p) { delete[] static_cast<char*>(p); });
  };
  Loader loader(reader_of(split), order_of(split, 1023), {16, 16, 1, 0}, options, 0);
  ASSERT_EQ(sizes, std::vector<std::size_t>{3U * 16 * 1024 * 4});
  for (int k = 0; k < 10; ++k) {
    const auto batch = loader.next();
    const auto* begin = static_cast<const char*>(memory.get());
    const auto* tokens = reinterpret_cast<const char*>(batch.tokens.data());
    EXPECT_TRUE(tokens >= begin && tokens + batch.tokens.size_bytes() <= begin + sizes[0]);
  }
}

TEST(Loader, StopsAtAnyTime) {
  const Scratch dir;
  const auto split = write_split(dir.path(), {5000}, kVocabulary);
  for (int k = 0; k < 30; ++k) {
    Loader loader(reader_of(split, microseconds{k % 3 * 100}), order_of(split, 16), {8, 8, 1, 0}, {}, 0);
    for (int taken = 0; taken < k % 5; ++taken) EXPECT_EQ(loader.next().step, taken);
    if (k % 2 == 0) std::this_thread::sleep_for(microseconds{50 * k});
  }
}

TEST(Loader, CountsTheTimeThatItsConsumerWaited) {
  const Scratch dir;
  const auto split = write_split(dir.path(), {5000}, kVocabulary);
  Loader loader(reader_of(split, microseconds{5000}), order_of(split, 16), {1, 1, 1, 0}, {}, 0);
  (void)loader.next();
  const auto waited = loader.waited_s();
  EXPECT_GE(waited, 0.001);
  EXPECT_LE(waited, 60);
}

TEST(Loader, SlowReadsCallAllThreads) {
  const Scratch dir;
  const auto split = write_split(dir.path(), {200'000}, kVocabulary);
  const auto threads = [] {
    return std::distance(std::filesystem::directory_iterator("/proc/self/task"), {});
  };
  const auto before = threads();
  LoaderOptions options;
  options.reader_threads = 20;
  Loader loader(reader_of(split, microseconds{2000}), order_of(split, 128), {8, 8, 1, 0}, options, 0);
  for (int k = 0; k < 40; ++k) EXPECT_EQ(loader.next().rows, 8);
  EXPECT_EQ(threads(), before + 20);
}

TEST(LoaderFaults, AnErrorComesInItsTurnAndAgain) {
  const Scratch dir;
  const auto split = write_split(dir.path(), {1000, 1000}, kVocabulary);
  const auto order = order_of(split, 10);
  const Slicing slicing{2, 2, 1, 0};
  flip_bit(split.shards[1], 500);
  std::int64_t bad_step = 0;  // the first step that touches the second shard
  while (order.window(2 * bad_step).end <= 1000 && order.window(2 * bad_step + 1).end <= 1000) ++bad_step;
  std::int64_t good_step = bad_step + 1;  // and a later one that does not
  while (order.window(2 * good_step).end > 1000 || order.window(2 * good_step + 1).end > 1000) ++good_step;
  for (const auto delay : {microseconds{0}, microseconds{200}}) {
    Loader loader(reader_of(split, delay), order, slicing, {}, 0);
    for (std::int64_t step = 0; step < bad_step; ++step)
      EXPECT_TRUE(is_right(loader.next(), order, slicing, step, 0));
    for (int again = 0; again < 3; ++again) {
      try {
        (void)loader.next();
        FAIL() << "step " << bad_step << " delivered damaged tokens";
      } catch (const DataError& error) {
        EXPECT_EQ(error.file().string(), split.shards[1].file);
        EXPECT_THAT(error.what(), HasSubstr("damaged"));
      }
    }
    loader.seek(good_step);
    EXPECT_TRUE(is_right(loader.next(), order, slicing, good_step, 0));
  }
}

TEST(LoaderFaults, WrongUseIsRefusedWithNumbers) {
  const Scratch dir;
  const auto split = write_split(dir.path(), {1000}, kVocabulary);
  const auto order = order_of(split, 10);
  const auto make = [&](Slicing slicing, LoaderOptions options, std::int64_t step) {
    Loader loader(reader_of(split), order, slicing, std::move(options), step);
  };
  EXPECT_NO_THROW(make({1, 1, 1, 0}, {}, 0));
  EXPECT_THROW(make({0, 1, 1, 0}, {}, 0), std::invalid_argument);
  EXPECT_THROW(make({1, 0, 1, 0}, {}, 0), std::invalid_argument);
  EXPECT_THROW(make({1, 1, 2, 2}, {}, 0), std::invalid_argument);
  EXPECT_THROW(make({1, 1, 1, 0}, {}, -1), std::invalid_argument);
  LoaderOptions none;
  none.reader_threads = 0;
  EXPECT_THROW(make({1, 1, 1, 0}, none, 0), std::invalid_argument);
  const Order other({999, 10, WindowMode::kSequential}, 1);
  EXPECT_THROW(Loader(reader_of(split), other, {1, 1, 1, 0}, {}, 0), std::invalid_argument);
  const MixedOrder two({order_of(split, 10), order_of(split, 10)}, {1, 1});
  EXPECT_THROW(Loader({reader_of(split)}, two, {1, 1, 1, 0}, {}, 0), std::invalid_argument);
}

TEST(LoaderBenchmark, CountsTokensAndTime) {
  const Scratch dir;
  const auto split = write_split(dir.path(), {5000}, kVocabulary);
  const auto order = order_of(split, 16);
  const auto rate = measure_loader(reader_of(split), order, {6, 4, 1, 0}, {}, 0.01);
  EXPECT_GE(rate.seconds, 0.01);
  EXPECT_EQ(rate.tokens % (2 * 16), 0);  // micro-batches of 4 and 2 rows
  EXPECT_GT(rate.tokens, 0);
  EXPECT_GE(rate.waited_s, 0);
  EXPECT_LE(rate.waited_share(), 1);
  EXPECT_DOUBLE_EQ(rate.tokens_per_s() * rate.seconds, static_cast<double>(rate.tokens));
  // What was delivered is the beginning of the order: as many rows as tokens / 16.
  std::int64_t sum = 0;
  for (std::int64_t sample = 0; sample < rate.tokens / 16; ++sample) {
    for (const auto id : tokens_from(order.window(sample).begin, 17, kVocabulary)) sum += id;
  }
  EXPECT_EQ(rate.id_sum, sum);
}

}  // namespace
}  // namespace sluice::dataio::testing
