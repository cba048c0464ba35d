// Files that something damaged: whatever is opened is either right to the last token and weight, or refused
// with an error of ours. SLUICE_FUZZ_CASES and SLUICE_FUZZ_SEED set how many cases are drawn, and which.
#include <gtest/gtest.h>

#include <cstdlib>
#include <functional>
#include <random>

#include "dataio/corpus.h"
#include "dataio/error.h"
#include "dataio/tokenizer.h"
#include "dataio/verify.h"
#include "tests/fuzz/damage.h"
#include "tests/unit/dataio/scratch.h"
#include "trainer/cli/option_table.h"
#include "trainer/train/checkpoint.h"
#include "trainer/train/errors.h"
#include "trainer/train/replica.h"

namespace fs = std::filesystem;

namespace sluice {
namespace {

std::int64_t setting(const char* name, std::int64_t otherwise) {
  const char* const text = std::getenv(name);
  return text == nullptr ? otherwise : std::atoll(text);
}

/// Calls `examine(case's copy of the fixture, description)` for each damaged copy.
void for_each_damaged(const fs::path& fixture, const std::function<void(const fs::path& copy)>& examine) {
  const std::int64_t cases = setting("SLUICE_FUZZ_CASES", 150);
  const auto seed = static_cast<std::uint64_t>(setting("SLUICE_FUZZ_SEED", 20210517));
  std::printf("seed %llu, %lld cases\n", static_cast<unsigned long long>(seed),
              static_cast<long long>(cases));
  std::mt19937_64 random(seed);
  for (std::int64_t i = 0; i < cases; ++i) {
    const dataio::Scratch scratch;
    const fs::path copy = scratch.path() / "copy";
    fs::copy(fixture, copy, fs::copy_options::recursive | fs::copy_options::copy_symlinks);
    const Damage damage = damage_one_file(copy, random);
    SCOPED_TRACE("case " + std::to_string(i) + ": " + fs::relative(damage.file, copy).string() + ", " +
                 damage.what);
    examine(copy);
    if (::testing::Test::HasFailure()) return;
  }
}

std::vector<std::int32_t> all_tokens(const fs::path& directory) {
  const dataio::Corpus corpus = dataio::Corpus::open(directory);
  std::vector<std::int32_t> all;
  for (const char* name : {"train", "valid"}) {
    const dataio::SplitLayout& split = corpus.split(name);
    std::vector<std::int32_t> tokens(static_cast<std::size_t>(split.tokens));
    dataio::SplitReader(split, corpus.vocabulary_size(), {}).read(0, tokens);
    all.insert(all.end(), tokens.begin(), tokens.end());
  }
  return all;
}

class DamagedCorpus : public ::testing::TestWithParam<const char*> {};

TEST_P(DamagedCorpus, IsRefusedOrReadsTheSameTokens) {
  const fs::path fixture = fs::path(SLUICE_FIXTURES) / GetParam();
  const std::vector<std::int32_t> truth = all_tokens(fixture);
  std::int64_t refused = 0;
  for_each_damaged(fixture, [&](const fs::path& copy) {
    const std::vector<std::string> faults = dataio::verify_corpus(copy);
    try {
      const std::vector<std::int32_t> tokens = all_tokens(copy);
      EXPECT_TRUE(tokens == truth || !faults.empty()) << "other tokens, and verify saw nothing";
      EXPECT_EQ(tokens, truth);
    } catch (const dataio::DataError& error) {
      ++refused;
      EXPECT_FALSE(faults.empty()) << "verify passed what opening refused: " << error.what();
    }
  });
  EXPECT_GT(refused, 0);
}

INSTANTIATE_TEST_SUITE_P(Fixtures, DamagedCorpus, ::testing::Values("corpus", "corpus-chars"));

TEST(DamagedTokenizer, IsRefusedOrEncodes) {
  for_each_damaged(fs::path(SLUICE_FIXTURES) / "corpus", [](const fs::path& copy) {
    try {
      const auto tokenizer = dataio::load_tokenizer(copy);
      std::vector<std::int32_t> ids;
      tokenizer->encode("a text of some words\n", ids);
      for (const std::int32_t id : ids) EXPECT_LT(id, tokenizer->vocabulary_size());
    } catch (const dataio::DataError&) {
      SUCCEED();
    }
  });
}

at::Tensor parameters_of(const train::CheckpointInfo& info) {
  return train::load_replica(info, at::kFloat)->parameters();
}

TEST(DamagedCheckpoint, IsPassedOverOrLoadsTheSameWeights) {
  const fs::path fixture = fs::path(SLUICE_FIXTURES) / "run";
  std::vector<std::string> warnings;
  std::map<std::int64_t, at::Tensor> truth;
  for (const char* name : {"step-000005", "step-000010"}) {
    const auto info = train::find_checkpoint(fixture / "checkpoints" / name, warnings);
    ASSERT_TRUE(info);
    truth[info->state.step] = parameters_of(*info);
  }
  std::int64_t passed_over = 0;
  for_each_damaged(fixture, [&](const fs::path& copy) {
    std::vector<std::string> told;
    const auto info = train::find_checkpoint(copy, told);
    ASSERT_TRUE(info) << "one of two checkpoints is whole";
    if (info->state.step != 10) {
      ++passed_over;
      EXPECT_FALSE(told.empty());
    }
    ASSERT_TRUE(truth.contains(info->state.step)) << info->state.step;
    EXPECT_TRUE(parameters_of(*info).equal(truth[info->state.step]));
  });
  EXPECT_GT(passed_over, 0);
}

TEST(DamagedSettings, AreRefusedOrParsed) {
  std::mt19937_64 random(static_cast<std::uint64_t>(setting("SLUICE_FUZZ_SEED", 20210517)));
  const std::string ini = cli::dump_ini(train::RunOptions{});
  for (std::int64_t i = 0; i < 10 * setting("SLUICE_FUZZ_CASES", 150); ++i) {
    std::string what;
    const std::string text = damaged(ini, random, what);
    SCOPED_TRACE("case " + std::to_string(i) + ": " + what);
    try {
      const train::RunOptions options = cli::parse_run_options_text(text, "damaged.ini");
      EXPECT_FALSE(cli::dump_ini(options).empty());
    } catch (const train::InputError& error) {
      EXPECT_NE(std::string(error.what()).find_first_not_of(' '), std::string::npos);
    }
  }
}

}  // namespace
}  // namespace sluice
