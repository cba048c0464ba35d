// Measures the loader over synthetic shards: loader_bench DIR MEGABYTES SHARDS SEQ_LEN MICRO_BATCH [DELAY_US]
// [SECONDS]. The shards are made in DIR (and kept) if they are not there. Prints one line of figures, the
// second of two runs: the first one checks each block's digest.
#include <sys/resource.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <vector>

#include "dataio/loader_benchmark.h"
#include "dataio/shard.h"

namespace {

using namespace sluice::dataio;
constexpr std::int64_t kVocabulary = 32000;

SplitLayout synthetic_split(const std::filesystem::path& directory, std::int64_t megabytes,
                            std::int64_t shards) {
  SplitLayout split{
      .name = "train", .shards = {}, .tokens = 0, .documents = 0, .text_bytes = 0, .text_characters = 0};
  std::filesystem::create_directories(directory);
  const std::int64_t shard_tokens = megabytes * 1'000'000 / 2 / shards;
  std::vector<std::int32_t> piece(std::min<std::int64_t>(shard_tokens, 1 << 20));
  for (std::int64_t k = 0; k < shards; ++k) {
    const auto file =
        directory / (std::to_string(megabytes) + "MB-" + std::to_string(shards) + "-" + std::to_string(k));
    if (!std::filesystem::exists(file)) {
      ShardWriter writer(file, shard_tokens, kVocabulary);
      for (std::int64_t done = 0; done < shard_tokens; done += std::ssize(piece)) {
        for (std::size_t t = 0; t < piece.size(); ++t) {
          piece[t] =
              static_cast<std::int32_t>((static_cast<std::uint64_t>(done + k) + t) * 7919 % kVocabulary);
        }
        writer.append(
            std::span(piece).first(std::min(piece.size(), static_cast<std::size_t>(shard_tokens - done))));
      }
      writer.close();
    }
    split.shards.push_back(open_shard(file));
    split.tokens += split.shards.back().tokens;
  }
  return split;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 6) {
    std::fprintf(stderr,
                 "usage: loader_bench DIR MEGABYTES SHARDS SEQ_LEN MICRO_BATCH [DELAY_US] [SECONDS]\n");
    return 2;
  }
  const auto split = synthetic_split(argv[1], std::atoll(argv[2]), std::atoll(argv[3]));
  const WindowPlan plan{split.tokens, std::atoll(argv[4]), WindowMode::kSequential};
  const Slicing slicing{std::atoll(argv[5]) * 4, std::atoll(argv[5]), 1, 0};
  ReaderOptions options;
  options.injected_delay = std::chrono::microseconds(argc > 6 ? std::atoll(argv[6]) : 0);
  const double seconds = argc > 7 ? std::atof(argv[7]) : 2.0;
  const auto reader = std::make_shared<SplitReader>(split, kVocabulary, options);
  const auto first = measure_loader(reader, Order(plan, 1), slicing, {}, seconds);
  const auto rate = measure_loader(reader, Order(plan, 1), slicing, {}, seconds);
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  std::printf(
      "%6s MB %5s shards n %5s micro %4s delay %5lld us: first %7.1f, then %7.1f Mtokens/s "
      "(%7.1f per CPU second), waited %4.1f %%, "
      "peak %ld MB\n",
      argv[2], argv[3], argv[4], argv[5], static_cast<long long>(options.injected_delay.count()),
      first.tokens_per_s() / 1e6, rate.tokens_per_s() / 1e6, rate.tokens_per_cpu_s() / 1e6,
      100 * rate.waited_share(), usage.ru_maxrss / 1024);
  return 0;
}
