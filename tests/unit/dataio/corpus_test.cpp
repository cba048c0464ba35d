#include "dataio/corpus.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>

#include "dataio/error.h"
#include "tests/unit/dataio/corpus_fixture.h"

namespace sluice::dataio::testing {
namespace {

using ::testing::HasSubstr;
using Json = nlohmann::json;

std::string fault_of_corpus(const std::filesystem::path& directory) {
  try {
    (void)Corpus::open(directory);
    return "";
  } catch (const DataError& error) {
    return error.what();
  }
}

/// What opening a small corpus complains of after a change of its corpus.json.
std::string fault_after(const std::function<void(Json&)>& change) {
  const Scratch dir;
  write_corpus(dir.path(), {{"train", {1000, 500}}, {"valid", {300}}}, 257);
  auto json = read_json(dir.path() / "corpus.json");
  change(json);
  write_json(dir.path() / "corpus.json", json);
  return fault_of_corpus(dir.path());
}

TEST(Corpus, OpensWithItsSplitsAndShards) {
  const Scratch dir;
  write_corpus(dir.path(), {{"train", {1000, 500}}, {"valid", {300}}}, 257);
  const auto corpus = Corpus::open(dir.path());
  EXPECT_EQ(corpus.vocabulary_size(), 257);
  EXPECT_EQ(corpus.end_of_document(), 256);
  EXPECT_EQ(corpus.tokenizer_kind(), "bytes");
  EXPECT_EQ(corpus.fingerprint(), "0123456789abcdef");
  const auto& train = corpus.split("train");
  EXPECT_EQ(train.tokens, 1500);
  ASSERT_EQ(train.shards.size(), 2U);
  EXPECT_EQ(train.shards[1].tokens, 500);
  EXPECT_TRUE(std::filesystem::path(train.shards[1].file).is_absolute());
}

TEST(Corpus, AnEmptySplitOpensButIsNotToBeRead) {
  const Scratch dir;
  write_corpus(dir.path(), {{"train", {1000}}, {"valid", {}}, {"test", {0}}}, 257);
  const auto corpus = Corpus::open(dir.path());
  EXPECT_EQ(corpus.splits().size(), 3U);
  EXPECT_TRUE(corpus.has_split("train"));
  for (const auto* name : {"valid", "test", "absent"}) {
    EXPECT_FALSE(corpus.has_split(name));
    try {
      (void)corpus.split(name);
      FAIL() << name;
    } catch (const DataError& error) {
      EXPECT_THAT(error.what(), HasSubstr(name));
      EXPECT_THAT(error.what(), HasSubstr("train (1000 tokens)"));
    }
  }
}

TEST(Corpus, PackedBytesCarryEverything) {
  const Scratch dir;
  write_corpus(dir.path(), {{"train", {1000, 600'000}}, {"valid", {300}}}, 257);
  const auto corpus = Corpus::open(dir.path());
  const auto bytes = corpus.pack();
  const auto copy = Corpus::unpack(bytes);
  EXPECT_EQ(copy.pack(), bytes);
  EXPECT_EQ(copy.directory(), corpus.directory());
  EXPECT_EQ(copy.vocabulary_size(), corpus.vocabulary_size());
  const auto& shard = copy.split("train").shards[1];
  const auto& original = corpus.split("train").shards[1];
  EXPECT_EQ(shard.file, original.file);
  EXPECT_EQ(shard.data_offset, original.data_offset);
  EXPECT_EQ(shard.element_bytes, original.element_bytes);
  EXPECT_EQ(shard.digest, original.digest);
  EXPECT_EQ(shard.block_digests, original.block_digests);
  EXPECT_EQ(shard.block_digests.size(), 2U);
  for (std::size_t size = 0; size < bytes.size(); size += 7) {
    EXPECT_THROW((void)Corpus::unpack(std::string_view(bytes).substr(0, size)), DataError) << size;
  }
  EXPECT_THROW((void)Corpus::unpack(bytes + "x"), DataError);
}

TEST(CorpusFaults, OfCorpusJson) {
  EXPECT_EQ(fault_after([](Json&) {}), "");
  EXPECT_THAT(fault_after([](Json& j) { j["format"] = "other"; }), HasSubstr("format \"other\""));
  EXPECT_THAT(fault_after([](Json& j) { j["version"] = 2; }),
              HasSubstr("format version 2, this program reads 1"));
  EXPECT_THAT(fault_after([](Json& j) { j.erase("tokenizer"); }), HasSubstr("tokenizer is missing"));
  EXPECT_THAT(fault_after([](Json& j) { j["tokenizer"]["vocabulary_size"] = "257"; }),
              HasSubstr("tokenizer.vocabulary_size is no whole number"));
  EXPECT_THAT(fault_after([](Json& j) { j["tokenizer"]["vocabulary_size"] = 300; }),
              HasSubstr("has vocabulary_size 257, corpus.json says 300"));
  EXPECT_THAT(fault_after([](Json& j) { j["tokenizer"]["end_of_document"] = 257; }),
              HasSubstr("end_of_document 257"));
  EXPECT_THAT(fault_after([](Json& j) { j["dtype"] = "uint32"; }), HasSubstr("dtype"));
  EXPECT_THAT(fault_after([](Json& j) { j["fingerprint"] = "xyz"; }), HasSubstr("16 hexadecimal digits"));
  EXPECT_THAT(fault_after([](Json& j) { j["splits"] = Json::object(); }), HasSubstr("no splits"));
  EXPECT_THAT(fault_after([](Json& j) { j["splits"] = 3; }), HasSubstr("splits is no JSON object"));
  EXPECT_THAT(fault_after([](Json& j) { j["splits"]["train"]["tokens"] = -1; }),
              HasSubstr("splits.train.tokens"));
  EXPECT_THAT(fault_after([](Json& j) { j["splits"]["train"]["tokens"] = 1501; }),
              HasSubstr("add up to 1500"));
  EXPECT_THAT(fault_after([](Json& j) { j["splits"]["train"]["shards"][1]["tokens"] = 501; }),
              HasSubstr("train-00001.h5: has tokens 500, corpus.json says 501"));
  EXPECT_THAT(fault_after([](Json& j) { j["splits"]["train"]["shards"][0]["documents"] = 9; }),
              HasSubstr("has documents 1, corpus.json says 9"));
  EXPECT_THAT(fault_after([](Json& j) { j["splits"]["train"]["shards"][0]["xxh3"] = "0"; }),
              HasSubstr("shards[0].xxh3"));
  EXPECT_THAT(fault_after([](Json& j) { j["splits"]["train"]["shards"][0]["file"] = "../a.h5"; }),
              HasSubstr("without a folder"));
  EXPECT_THAT(fault_after([](Json& j) { j["splits"]["train"]["shards"][0]["file"] = "train-00007.h5"; }),
              HasSubstr("train-00007.h5: cannot be opened: No such file"));
  EXPECT_THAT(fault_after([](Json& j) { j = Json::array(); }), HasSubstr("no JSON object"));
}

TEST(CorpusFaults, OfFiles) {
  const Scratch dir;
  EXPECT_THAT(fault_of_corpus(dir.path()), HasSubstr("corpus.json: cannot be opened: No such file"));
  write_corpus(dir.path(), {{"train", {1000, 500}}}, 257);
  const auto json = dir.path() / "corpus.json";
  std::filesystem::resize_file(json, std::filesystem::file_size(json) / 2);
  EXPECT_THAT(fault_of_corpus(dir.path()), HasSubstr("corpus.json: is no valid JSON"));
}

}  // namespace
}  // namespace sluice::dataio::testing
