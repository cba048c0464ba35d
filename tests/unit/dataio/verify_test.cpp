#include "dataio/verify.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <functional>
#include <nlohmann/json.hpp>

#include "dataio/corpus.h"
#include "dataio/describe.h"
#include "dataio/error.h"
#include "dataio/prepare.h"
#include "dataio/shard.h"
#include "tests/unit/dataio/scratch.h"
#include "tests/unit/dataio/text_fixture.h"

namespace sluice::dataio {
namespace {

using testing::AllOf;
using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::StartsWith;

/// A corpus of two train shards and one valid shard, to be damaged.
class Verify : public testing::Test {
 protected:
  Verify() {
    PrepareOptions options;
    options.inputs = {write_text(scratch_.path() / "t.txt", synthetic_text(1500000, 1))};
    options.out = corpus_;
    options.documents = DocumentKind::kBlankLine;
    options.shard_tokens = 1000000;
    (void)prepare(options, {});
  }

  /// XORs one byte of a token; HDF5 knows nothing of it.
  void damage_token(const std::string& shard, std::int64_t token, int byte, unsigned char mask) const {
    const auto path = corpus_ / shard;
    std::string content = read_text(path);
    const auto at = static_cast<std::size_t>(open_shard(path).data_offset + 2 * token + byte);
    content[at] = static_cast<char>(static_cast<unsigned char>(content[at]) ^ mask);
    write_text(path, content);
  }

  void change_json(const std::function<void(nlohmann::ordered_json&)>& change) const {
    auto json = nlohmann::ordered_json::parse(read_text(corpus_ / "corpus.json"));
    change(json);
    write_text(corpus_ / "corpus.json", json.dump());
  }

  Scratch scratch_;
  std::filesystem::path corpus_ = scratch_.path() / "corpus";
};

TEST_F(Verify, AWholeCorpusHasNothingWrong) { EXPECT_THAT(verify_corpus(corpus_), IsEmpty()); }

TEST_F(Verify, OneFlippedBitIsFoundInEveryDigestAboveIt) {
  damage_token("train-00000.h5", 600000, 0, 1);  // the second MiB begins at token 524288
  EXPECT_THAT(verify_corpus(corpus_),
              ElementsAre(StartsWith("train-00000.h5: MiB 1 of the tokens has digest"),
                          StartsWith("train-00000.h5: XXH3-64 of all tokens"),
                          StartsWith("corpus.json: fingerprint")));
}

TEST_F(Verify, AnIdAboveTheVocabularyIsNamed) {
  damage_token("valid-00000.h5", 17, 1, 0x40);
  EXPECT_THAT(verify_corpus(corpus_), Contains(AllOf(StartsWith("valid-00000.h5: token 17 is 16"),
                                                     HasSubstr("the vocabulary has 257 ids"))));
}

TEST_F(Verify, EverythingWrongIsListed) {
  std::filesystem::remove(corpus_ / "train-00001.h5");
  write_text(corpus_ / "valid-00000.h5", "no HDF5");
  write_text(corpus_ / "train-00007.h5", "stray");
  write_text(corpus_ / "tokenizer.json", "{}");
  const auto findings = verify_corpus(corpus_);
  for (const char* start :
       {"train-00001.h5: ", "valid-00000.h5: ", "train-00007.h5: is not listed", "tokenizer.json: "}) {
    EXPECT_THAT(findings, Contains(StartsWith(start)));
  }
}

TEST_F(Verify, ATruncatedShardIsNamed) {
  std::filesystem::resize_file(corpus_ / "train-00000.h5", 500000);
  EXPECT_THAT(verify_corpus(corpus_), Contains(StartsWith("train-00000.h5: ")));
}

TEST_F(Verify, CountsAreComparedWithTheContent) {
  change_json([](auto& json) {
    json["splits"]["train"]["tokens"] = 7;
    json["splits"]["train"]["text_characters"] = 8;
    json["splits"]["valid"]["shards"][0]["documents"] = 9;
    json["tokenizer"]["vocabulary_size"] = 300;
    json["fingerprint"] = "0123456789abcdef";
  });
  const auto findings = verify_corpus(corpus_);
  EXPECT_THAT(findings, Contains(StartsWith("corpus.json: split train: tokens 7, expected")));
  EXPECT_THAT(findings, Contains(StartsWith("corpus.json: split train: text_characters 8, expected")));
  EXPECT_THAT(findings, Contains(AllOf(StartsWith("valid-00000.h5: documents"), HasSubstr("expected 9"))));
  EXPECT_THAT(findings, Contains(StartsWith("corpus.json: vocabulary_size 300, expected 257")));
  EXPECT_THAT(findings, Contains(StartsWith("train-00000.h5: vocabulary_size 257, expected 300")));
  EXPECT_THAT(findings, Contains(StartsWith("corpus.json: fingerprint 0123456789abcdef")));
}

TEST_F(Verify, WhatIsNoCorpusIsSaidInOneLine) {
  EXPECT_THAT(verify_corpus(scratch_.path() / "none"), ElementsAre(StartsWith("corpus.json: cannot open")));
  write_text(corpus_ / "corpus.json", "{\"format\":");
  EXPECT_THAT(verify_corpus(corpus_), ElementsAre(StartsWith("corpus.json: ")));
  write_text(corpus_ / "corpus.json", "{}");
  EXPECT_THAT(verify_corpus(corpus_), ElementsAre(StartsWith("corpus.json: ")));
}

TEST_F(Verify, DescriptionSumsUpTheCorpus) {
  const CorpusSummary summary = describe_corpus(corpus_);
  EXPECT_EQ(summary.tokenizer_kind, "bytes");
  EXPECT_EQ(summary.dtype, "uint16");
  EXPECT_EQ(summary.end_of_document, 256);
  ASSERT_EQ(summary.splits.size(), 2U);
  const SplitDescription& train = summary.splits[0];
  EXPECT_EQ(train.name, "train");
  ASSERT_EQ(train.shards.size(), 2U);
  EXPECT_EQ(train.shards[0].file, "train-00000.h5");
  EXPECT_EQ(train.shards[0].tokens, 1000000);
  EXPECT_EQ(train.shards[0].tokens + train.shards[1].tokens, train.tokens);
  EXPECT_EQ(train.text_bytes + train.documents - 1, train.tokens) << "an end between any two documents";
}

TEST_F(Verify, WindowsAreDecoded) {
  const std::string text = read_text(scratch_.path() / "t.txt");
  const TokenWindow window = read_window(corpus_, "train", 2, 9);
  EXPECT_EQ(window.text, text.substr(2, 7));
  EXPECT_EQ(window.ids.size(), 7U);
  EXPECT_THROW((void)read_window(corpus_, "train", 5, 4), DataError);
  EXPECT_THROW((void)read_window(corpus_, "valid", 0, 1000000000), DataError);
  EXPECT_THROW((void)read_window(corpus_, "test", 0, 1), DataError);
}

/// Corpora written by the first version: every later one must read them.
class FirstVersion : public testing::TestWithParam<std::string> {};

TEST_P(FirstVersion, CorpusIsReadVerifiedAndDecoded) {
  const std::filesystem::path fixtures = std::filesystem::path(SLUICE_FIXTURES) / "v1";
  const auto directory = fixtures / GetParam();
  EXPECT_THAT(verify_corpus(directory), IsEmpty());
  const CorpusSummary summary = describe_corpus(directory);
  EXPECT_EQ(summary.version, 1);
  std::string text;
  for (const SplitDescription& split : summary.splits) {
    const TokenWindow window = read_window(directory, split.name, 0, split.tokens);
    EXPECT_EQ(split.text_bytes, std::ssize(window.text)) << split.name;
    text += window.text;
  }
  // Blank lines part documents and are not kept.
  std::string expected = read_text(fixtures / "text.txt");
  for (auto at = expected.find("\n\n"); at != std::string::npos; at = expected.find("\n\n"))
    expected.erase(at, 1);
  EXPECT_EQ(text, expected);
}

INSTANTIATE_TEST_SUITE_P(Fixtures, FirstVersion, testing::Values("corpus", "corpus-chars"),
                         [](const auto& fixture) {
                           return std::string(fixture.param == "corpus" ? "SentencePiece" : "Chars");
                         });

TEST(FirstVersionFingerprint, Stays) {
  const std::filesystem::path fixtures = std::filesystem::path(SLUICE_FIXTURES) / "v1";
  EXPECT_EQ(Corpus::open(fixtures / "corpus").fingerprint(), "c2385f3e29e9b64c");
  EXPECT_EQ(Corpus::open(fixtures / "corpus-chars").fingerprint(), "6b87c4795feb03ff");
}

}  // namespace
}  // namespace sluice::dataio
