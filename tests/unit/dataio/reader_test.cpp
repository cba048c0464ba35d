#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <functional>
#include <random>
#include <thread>

#include "dataio/corpus.h"
#include "dataio/error.h"
#include "dataio/open_files.h"
#include "tests/unit/dataio/corpus_fixture.h"

namespace sluice::dataio::testing {
namespace {

using ::testing::HasSubstr;

std::vector<std::int32_t> read(SplitReader& reader, std::int64_t begin, std::int64_t count) {
  std::vector<std::int32_t> out(static_cast<std::size_t>(count), -1);
  reader.read(begin, out);
  return out;
}

std::string fault_of(SplitReader& reader, std::int64_t begin, std::int64_t count) {
  try {
    read(reader, begin, count);
    return "";
  } catch (const DataError& error) {
    return error.what();
  }
}

ReaderOptions at_most(std::int64_t files) {
  ReaderOptions options;
  options.max_open_files = files;
  return options;
}

TEST(SplitReader, ReadsAnyRangeAcrossShardsAndBlocks) {
  for (const std::int64_t vocabulary : {257, 65536, 100'000}) {
    const Scratch dir;
    const auto split = write_split(dir.path(), {0, 700'000, 1, 0, 64, 900'000, 0}, vocabulary);
    for (const auto digests : {true, false}) {
      ReaderOptions options = at_most(2);
      options.check_digests = digests;
      SplitReader reader(split, vocabulary, options);
      std::mt19937_64 random(5);
      for (int k = 0; k < 300; ++k) {
        const auto begin = static_cast<std::int64_t>(random() % static_cast<std::uint64_t>(split.tokens));
        const auto longest = std::min<std::int64_t>(split.tokens - begin, k % 10 == 0 ? split.tokens : 500);
        const auto count = static_cast<std::int64_t>(random() % static_cast<std::uint64_t>(longest + 1));
        ASSERT_EQ(read(reader, begin, count), tokens_from(begin, count, vocabulary))
            << begin << " + " << count;
      }
      EXPECT_EQ(read(reader, 0, split.tokens), tokens_from(0, split.tokens, vocabulary));
      EXPECT_TRUE(read(reader, split.tokens, 0).empty());
      EXPECT_THROW(read(reader, split.tokens - 1, 2), std::invalid_argument);
      EXPECT_THROW(read(reader, -1, 2), std::invalid_argument);
    }
  }
}

TEST(SplitReader, ManyThreadsShareFewFiles) {
  const Scratch dir;
  const auto split = write_split(dir.path(), std::vector<std::int64_t>(12, 1000), 300);
  for (const std::int64_t files : {1, 2, 5}) {
    SplitReader reader(split, 300, at_most(files));
    std::atomic<int> wrong{0};
    std::vector<std::thread> threads;
    for (unsigned t = 0; t < 8; ++t) {
      threads.emplace_back([&, t] {
        std::mt19937_64 random(t);
        for (int k = 0; k < 500; ++k) {
          const auto begin = static_cast<std::int64_t>(random() % 11'900);
          if (read(reader, begin, 100) != tokens_from(begin, 100, 300)) ++wrong;
        }
      });
    }
    for (auto& thread : threads) thread.join();
    EXPECT_EQ(wrong, 0) << files << " files";
  }
}

TEST(OpenFiles, NeverMoreThanAllowed) {
  const Scratch dir;
  std::vector<std::string> paths;
  for (int k = 0; k < 20; ++k) {
    paths.push_back((dir.path() / std::to_string(k)).string());
    std::ofstream(paths.back()) << k;
  }
  OpenFiles files(paths, 3, [](std::int64_t) {});
  std::atomic<std::int64_t> most{0};
  std::atomic<int> wrong{0};
  std::vector<std::thread> threads;
  for (unsigned t = 0; t < 6; ++t) {
    threads.emplace_back([&, t] {
      std::mt19937_64 random(t);
      for (int k = 0; k < 500; ++k) {
        const auto file = static_cast<std::int64_t>(random() % 20);
        const auto use = files.use(file);
        char text[8] = {};
        if (::pread(use.descriptor(), text, sizeof text, 0) < 1 || std::stoll(text) != file) ++wrong;
        for (auto seen = most.load();
             files.open_count() > seen && !most.compare_exchange_weak(seen, files.open_count());) {
        }
      }
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(wrong, 0);
  EXPECT_LE(most, 3);
  EXPECT_GE(most, 1);
}

/// Runs `body` in a process of its own, whose limit of open files is `limit`; true if it returned true.
bool in_process_with_files(rlim_t limit, const std::function<bool()>& body) {
  const auto child = ::fork();
  if (child == 0) {
    const rlimit both{limit, limit};
    bool good = ::setrlimit(RLIMIT_NOFILE, &both) == 0;
    try {
      good = good && body();
    } catch (const std::exception& error) {
      std::fprintf(stderr, "%s\n", error.what());
      good = false;
    }
    ::_exit(good ? 0 : 1);
  }
  int status = -1;
  ::waitpid(child, &status, 0);
  return status == 0;
}

/// `count` shards with the same content, tokens_from(0, shard_tokens).
SplitLayout copies_of_a_shard(const std::filesystem::path& directory, std::int64_t count,
                              std::int64_t shard_tokens) {
  auto split = write_split(directory, {shard_tokens}, 300);
  const auto shard = split.shards.front();
  for (std::int64_t k = 1; k < count; ++k) {
    auto copy = shard;
    copy.file = (directory / ("copy-" + std::to_string(k))).string();
    std::filesystem::copy_file(shard.file, copy.file);
    split.shards.push_back(copy);
    split.tokens += copy.tokens;
  }
  return split;
}

TEST(SplitReader, AThousandShardsUnder256Files) {
  const Scratch dir;
  const auto split = copies_of_a_shard(dir.path(), 1000, 50);
  const auto one = tokens_from(0, 50, 300);
  EXPECT_TRUE(in_process_with_files(256, [&] {
    SplitReader reader(split, 300, {});
    SplitReader second(split, 300, {});
    std::atomic<int> wrong{0};
    std::vector<std::thread> threads;
    for (int t = 0; t < 4; ++t) {
      threads.emplace_back([&, t] {
        for (std::int64_t k = 0; k < 1000; ++k) {
          if (read(t % 2 == 0 ? reader : second, (k * 7 + t) % 1000 * 50, 50) != one) ++wrong;
        }
      });
    }
    for (auto& thread : threads) thread.join();
    return wrong == 0;
  }));
}

TEST(SplitReader, GivesUpFilesWhenOthersTakeThem) {
  const Scratch dir;
  const auto split = copies_of_a_shard(dir.path(), 30, 50);
  EXPECT_TRUE(in_process_with_files(64, [&] {
    SplitReader reader(split, 300, at_most(30));
    for (std::int64_t k = 0; k < 3; ++k) read(reader, k * 50, 50);
    while (::dup(2) >= 0) {
    }
    for (std::int64_t k = 0; k < 30; ++k) {
      if (read(reader, k * 50, 50) != tokens_from(0, 50, 300)) return false;
    }
    return true;
  }));
}

TEST(SplitReader, MemoryDoesNotGrowWithTheCorpus) {
  const Scratch dir;
  const std::int64_t tokens = 20'000'000;
  const auto split = write_split(dir.path(), {tokens}, 300);
  const auto resident_bytes = [] {
    std::ifstream statm("/proc/self/statm");
    std::int64_t pages = 0;
    statm >> pages >> pages;
    return pages * ::sysconf(_SC_PAGESIZE);
  };
  SplitReader reader(split, 300, {});
  std::vector<std::int32_t> row(1000);
  reader.read(0, row);
  const auto before = resident_bytes();
  for (std::int64_t begin = 0; begin < tokens; begin += 1000) reader.read(begin, row);
  EXPECT_LT(resident_bytes() - before, 4 << 20) << "after reading 40 MB";
}

TEST(ReaderFaults, AFlippedBitIsFoundAtFirstTouch) {
  const Scratch dir;
  const auto split = write_split(dir.path(), {1'500'000}, 300);
  flip_bit(split.shards[0], 600'000);  // in the second block of 524288 tokens
  SplitReader reader(split, 300, {});
  EXPECT_EQ(fault_of(reader, 0, 524'288), "");
  const auto fault = fault_of(reader, 524'280, 20);
  EXPECT_THAT(fault, HasSubstr(split.shards[0].file));
  EXPECT_THAT(fault, HasSubstr("damaged"));
  EXPECT_THAT(fault, HasSubstr("block 1"));
  EXPECT_THAT(fault_of(reader, 700'000, 5), HasSubstr("block 1")) << "not taken for checked";
  EXPECT_EQ(fault_of(reader, 1'048'576, 400'000), "") << "the third block is whole";
}

TEST(ReaderFaults, TruncatedBeforeAndDuringTheRun) {
  const Scratch dir;
  const auto split = write_split(dir.path(), {600'000, 1000}, 300);
  SplitReader reader(split, 300, at_most(1));
  EXPECT_EQ(fault_of(reader, 0, 600'000), "");
  const auto end = split.shards[0].data_offset + 1'200'000;
  std::filesystem::resize_file(split.shards[0].file, static_cast<std::uintmax_t>(end - 100));
  EXPECT_THAT(fault_of(reader, 599'900, 100),
              HasSubstr("is truncated: tokens end at byte " + std::to_string(end) + ", the file at byte " +
                        std::to_string(end - 100)));
  std::filesystem::resize_file(split.shards[1].file, 100);
  EXPECT_THAT(fault_of(reader, 600'000, 10), HasSubstr("truncated"));
}

TEST(ReaderFaults, VanishedWhileItWasClosed) {
  const Scratch dir;
  const auto split = write_split(dir.path(), {1000, 1000}, 300);
  SplitReader reader(split, 300, at_most(1));
  EXPECT_EQ(fault_of(reader, 0, 2000), "");  // the first shard is closed now
  std::filesystem::remove(split.shards[0].file);
  EXPECT_THAT(fault_of(reader, 0, 10), HasSubstr("train-0.h5: cannot be opened: No such file"));
  EXPECT_EQ(fault_of(reader, 1000, 10), "");
}

TEST(ReaderFaults, AReplacedFileIsCheckedAgain) {
  const Scratch dir;
  const auto split = write_split(dir.path(), {1000, 1000}, 300);
  SplitReader reader(split, 300, at_most(1));
  EXPECT_EQ(fault_of(reader, 0, 2000), "");
  const auto copy = split.shards[0].file + ".copy";
  std::filesystem::copy_file(split.shards[0].file, copy);
  std::filesystem::rename(copy, split.shards[0].file);
  EXPECT_EQ(fault_of(reader, 0, 2000), "") << "the same content is welcome";
  std::filesystem::copy_file(split.shards[0].file, copy);
  std::filesystem::rename(copy, split.shards[0].file);
  flip_bit(split.shards[0], 5);
  EXPECT_THAT(fault_of(reader, 0, 1000), HasSubstr("damaged"));
}

TEST(ReaderFaults, ErrorsOfTheSystemCarryItsWords) {
  const Scratch dir;
  auto split = write_split(dir.path(), {1000}, 300);
  split.shards[0].file = "/proc/self/mem";  // address 0 is not mapped: reading there is an I/O error
  split.shards[0].data_offset = 0;
  SplitReader broken(split, 300, {});
  EXPECT_THAT(fault_of(broken, 0, 10), HasSubstr("cannot be read at byte 0: Input/output error"));
  split.shards[0].file = dir.path().string();
  SplitReader directory(split, 300, {});
  EXPECT_THAT(fault_of(directory, 0, 10), HasSubstr("Is a directory"));
}

TEST(ReaderFaults, AnIdAboveTheVocabularyIsNamed) {
  for (const std::int64_t stored : {300, 100'000}) {
    const Scratch dir;
    const auto split = write_split(dir.path(), {1000}, stored);
    const auto tokens = tokens_from(0, 1000, stored);
    const auto largest = *std::ranges::max_element(tokens);
    SplitReader enough(split, largest + 1, {});
    EXPECT_EQ(fault_of(enough, 0, 1000), "");
    SplitReader few(split, largest, {});
    const auto place = std::ranges::find(tokens, largest) - tokens.begin();
    EXPECT_THAT(fault_of(few, 0, 1000),
                HasSubstr("token " + std::to_string(place) + " has id " + std::to_string(largest) +
                          ", not below the vocabulary's size " + std::to_string(largest)));
    EXPECT_EQ(fault_of(few, 0, place), "");
  }
}

}  // namespace
}  // namespace sluice::dataio::testing
