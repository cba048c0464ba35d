#include "dataio/prepare.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <unistd.h>

#include <cmath>
#include <cstring>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <sstream>

#include "dataio/corpus.h"
#include "dataio/error.h"
#include "dataio/shard.h"
#include "dataio/tokenizer.h"
#include "tests/unit/dataio/scratch.h"
#include "tests/unit/dataio/text_fixture.h"

namespace sluice::dataio {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;

const std::function<void(const PrepareProgress&)> kSilent = [](const PrepareProgress&) {};

/// Every file of a directory with its content.
std::map<std::string, std::string> content_of(const std::filesystem::path& directory) {
  std::map<std::string, std::string> files;
  for (const auto& entry : std::filesystem::directory_iterator(directory)) {
    files[entry.path().filename().string()] = read_text(entry.path());
  }
  return files;
}

std::vector<std::int32_t> tokens_of(const Corpus& corpus, const std::string& split) {
  if (!corpus.has_split(split)) return {};
  std::vector<std::int32_t> tokens;
  for (const ShardLayout& shard : corpus.split(split).shards) {
    const std::string bytes = read_text(shard.file).substr(static_cast<std::size_t>(shard.data_offset));
    for (std::size_t i = 0; i < static_cast<std::size_t>(shard.tokens); ++i) {
      std::uint32_t id = 0;
      std::memcpy(&id, bytes.data() + i * static_cast<std::size_t>(shard.element_bytes),
                  static_cast<std::size_t>(shard.element_bytes));
      tokens.push_back(static_cast<std::int32_t>(id));
    }
  }
  return tokens;
}

PrepareOptions preparation_of(std::vector<std::filesystem::path> inputs,
                              const std::string& tokenizer = "bytes") {
  PrepareOptions options;
  options.inputs = std::move(inputs);
  options.tokenizer = tokenizer;
  return options;
}

std::string failure(const PrepareOptions& options) {
  try {
    (void)prepare(options, kSilent);
  } catch (const DataError& e) {
    return e.what();
  }
  return "prepared";
}

TEST(Prepare, CharactersSplitNinetyToTenAsTheLabmlExperimentDoes) {
  const Scratch scratch;
  constexpr std::int64_t kCharacters = 1115394;
  std::string text(kCharacters, 'x');
  for (std::size_t i = 0; i < text.size(); ++i) text[i] = static_cast<char>('a' + i * 31 % 23);
  PrepareOptions options = preparation_of({write_text(scratch.path() / "t.txt", text)}, "chars");
  options.out = scratch.path() / "corpus";
  options.valid_fraction = 0.1;
  const PrepareResult result = prepare(options, kSilent);
  EXPECT_EQ(result.train_tokens, 1003854);
  EXPECT_EQ(result.valid_tokens, 111540);
  EXPECT_EQ(result.documents, 1);
  EXPECT_EQ(result.vocabulary_size, 24);
  const Corpus corpus = Corpus::open(options.out);
  EXPECT_EQ(corpus.split("train").text_characters, 1003854);
  EXPECT_EQ(corpus.split("valid").text_bytes, 111540);
  const auto valid = tokens_of(corpus, "valid");
  for (std::size_t i = 0; i < valid.size(); i += 997) ASSERT_EQ(valid[i], text[1003854 + i] - 'a');
}

TEST(Prepare, EndOfDocumentStandsBetweenDocumentsOnly) {
  const Scratch scratch;
  PrepareOptions options = preparation_of({write_text(scratch.path() / "t.txt", "ab\n\nc\n\n\nd")});
  options.out = scratch.path() / "corpus";
  options.documents = DocumentKind::kBlankLine;
  options.valid_fraction = 0;
  EXPECT_EQ(prepare(options, kSilent).documents, 3);
  const Corpus corpus = Corpus::open(options.out);
  EXPECT_THAT(tokens_of(corpus, "train"), ElementsAre('a', 'b', '\n', 256, 'c', '\n', 256, 'd'));
  EXPECT_FALSE(corpus.has_split("valid"));
  EXPECT_THAT(read_document_offsets(options.out / "train-00000.h5"), ElementsAre(0, 4, 7));
  EXPECT_EQ(corpus.split("train").text_bytes, 6);
}  // namespace

TEST(Prepare, ShardsAreCutWhereAsked) {
  const Scratch scratch;
  PrepareOptions options = preparation_of({write_text(scratch.path() / "t.txt", "abc\n\ndefgh\n\ni\n")});
  options.out = scratch.path() / "corpus";
  options.documents = DocumentKind::kBlankLine;
  options.valid_fraction = 0.25;
  options.shard_tokens = 5;
  (void)prepare(options, kSilent);  // abc\n | defgh\n | i\n: 14 tokens, 10 in train
  const Corpus corpus = Corpus::open(options.out);
  ASSERT_EQ(corpus.split("train").shards.size(), 2U);
  EXPECT_THAT(tokens_of(corpus, "train"), ElementsAre('a', 'b', 'c', '\n', 256, 'd', 'e', 'f', 'g', 'h'));
  EXPECT_THAT(tokens_of(corpus, "valid"), ElementsAre('\n', 256, 'i', '\n'));
  EXPECT_THAT(read_document_offsets(options.out / "train-00000.h5"), ElementsAre(0));
  EXPECT_THAT(read_document_offsets(options.out / "train-00001.h5"), ElementsAre(0));
  EXPECT_THAT(read_document_offsets(options.out / "valid-00000.h5"), ElementsAre(0, 2));
}

TEST(Prepare, CorpusFileIsAsDocumented) {
  const Scratch scratch;
  PrepareOptions options =
      preparation_of({write_text(scratch.path() / "t.txt", "h\xC3\xA9llo w\xC3\xB6rld")});
  options.out = scratch.path() / "corpus";
  options.valid_fraction = 0.5;
  (void)prepare(options, kSilent);
  const auto json = nlohmann::json::parse(read_text(options.out / "corpus.json"));
  EXPECT_EQ(json.at("format"), "sluice-corpus");
  EXPECT_EQ(json.at("version"), 1);
  EXPECT_EQ(json.at("dtype"), "uint16");
  EXPECT_EQ(json.at("tokenizer"),
            nlohmann::json::parse(R"({"kind":"bytes","vocabulary_size":257,"end_of_document":256})"));
  EXPECT_EQ(json.at("fingerprint").get<std::string>().size(), 16U);
  const auto& train = json.at("splits").at("train");  // 13 bytes: "h\xC3\xA9llo" is 6 of them
  EXPECT_EQ(train.at("tokens"), 6);
  EXPECT_EQ(train.at("text_bytes"), 6);
  EXPECT_EQ(train.at("text_characters"), 5);
  EXPECT_EQ(json.at("splits").at("valid").at("text_characters"), 6);
  EXPECT_EQ(train.at("shards").at(0).at("file"), "train-00000.h5");
  EXPECT_EQ(train.at("shards").at(0).at("xxh3").get<std::string>().size(), 16U);
}

class PrepareKinds : public testing::TestWithParam<std::string> {};

TEST_P(PrepareKinds, TheNumberOfJobsChangesNothing) {
  const Scratch scratch;
  const std::size_t bytes = GetParam().starts_with("train") ? 300000 : 1000000;  // several blocks of 256 KiB
  write_text(scratch.path() / "in/a.txt", synthetic_text(bytes, 1));
  write_text(scratch.path() / "in/b/c.txt", synthetic_text(bytes * 2 / 3, 2));
  for (const SplitKind split : {SplitKind::kContiguous, SplitKind::kDocuments}) {
    std::map<std::string, std::string> first;
    for (const std::int64_t jobs : {1, 2, 5}) {
      PrepareOptions options = preparation_of({scratch.path() / "in"}, GetParam());
      options.out = scratch.path() / ("corpus" + std::to_string(jobs));
      options.documents = DocumentKind::kBlankLine;
      options.split = split;
      options.shard_tokens = 150000;
      options.jobs = jobs;
      (void)prepare(options, kSilent);
      const auto content = content_of(options.out);
      std::filesystem::remove_all(options.out);
      if (jobs == 1) first = content;
      EXPECT_TRUE(content == first) << jobs << " jobs";
      EXPECT_GE(content.size(), 4U);
    }
  }
}

TEST_P(PrepareKinds, DecodesToItsTextAndCountsIt) {
  const Scratch scratch;
  const std::string text = synthetic_text(300000, 3);
  PrepareOptions options = preparation_of({write_text(scratch.path() / "t.txt", text)}, GetParam());
  options.out = scratch.path() / "corpus";
  options.valid_fraction = 0.2;
  const PrepareResult result = prepare(options, kSilent);
  const Corpus corpus = Corpus::open(options.out);
  const auto tokenizer = load_tokenizer(options.out);
  EXPECT_EQ(tokenizer->vocabulary_size(), result.vocabulary_size);
  std::string all;
  for (const char* name : {"train", "valid"}) {
    const std::string part = tokenizer->decode(tokens_of(corpus, name));
    EXPECT_EQ(corpus.split(name).text_bytes, std::ssize(part)) << name;
    std::int64_t characters = 0;
    for (const char c : part) characters += (static_cast<unsigned char>(c) & 0xC0U) != 0x80U ? 1 : 0;
    EXPECT_EQ(corpus.split(name).text_characters, characters) << name;
    all += part;
  }
  EXPECT_TRUE(all == text);
  const std::int64_t tokens = result.train_tokens + result.valid_tokens;
  EXPECT_EQ(result.train_tokens, static_cast<std::int64_t>(std::floor(0.8 * static_cast<double>(tokens))));
}

INSTANTIATE_TEST_SUITE_P(All, PrepareKinds, testing::Values("bytes", "chars", "train-sentencepiece:500"));

TEST(Prepare, DocumentsKeepTogetherWithTheirCopies) {
  const Scratch scratch;
  std::string text;
  for (int i = 0; i < 400; ++i) text += "paragraph " + std::to_string(i % 100) + "\n\n";
  PrepareOptions options = preparation_of({write_text(scratch.path() / "t.txt", text)});
  options.out = scratch.path() / "corpus";
  options.documents = DocumentKind::kBlankLine;
  options.split = SplitKind::kDocuments;
  options.valid_fraction = 0.3;
  (void)prepare(options, kSilent);
  const Corpus corpus = Corpus::open(options.out);
  const auto tokenizer = load_tokenizer(options.out);
  std::map<std::string, std::string> split_of;
  std::int64_t documents = 0;
  for (const std::string name : {"train", "valid"}) {
    std::istringstream lines(tokenizer->decode(tokens_of(corpus, name)));
    for (std::string line; std::getline(lines, line); ++documents) {
      EXPECT_EQ(split_of.try_emplace(line, name).first->second, name) << line;
    }
    EXPECT_GE(corpus.split(name).documents, 40) << name;
  }
  EXPECT_EQ(documents, 400);
  EXPECT_EQ(split_of.size(), 100U);
  EXPECT_EQ(corpus.split("train").documents + corpus.split("valid").documents, 400);
}

TEST(Prepare, FingerprintFollowsContentNotShardCuts) {
  const Scratch scratch;
  const auto fingerprint = [&](const std::string& text, std::int64_t shard_tokens) {
    PrepareOptions options = preparation_of({write_text(scratch.path() / "t.txt", text)});
    options.out = scratch.path() / "corpus";
    options.shard_tokens = shard_tokens;
    (void)prepare(options, kSilent);
    const std::string result = Corpus::open(options.out).fingerprint();
    std::filesystem::remove_all(options.out);
    return result;
  };
  const std::string text = synthetic_text(10000, 4);
  std::string other = text;
  other[5000] = '~';
  EXPECT_EQ(fingerprint(text, 1000), fingerprint(text, 777));
  EXPECT_NE(fingerprint(text, 1000), fingerprint(other, 1000));
}

TEST(Prepare, WideVocabulariesAreStoredInFourBytes) {
  const Scratch scratch;
  std::string text;
  for (std::uint32_t c = 0x10000; c < 0x10000 + 70000; ++c) {
    for (const std::uint32_t byte :
         {0xF0 + c / 262144, 0x80 + c / 4096 % 64, 0x80 + c / 64 % 64, 0x80 + c % 64}) {
      text.push_back(static_cast<char>(static_cast<unsigned char>(byte)));
    }
  }
  PrepareOptions options = preparation_of({write_text(scratch.path() / "t.txt", text)}, "chars");
  options.out = scratch.path() / "corpus";
  options.valid_fraction = 0.5;
  (void)prepare(options, kSilent);
  const Corpus corpus = Corpus::open(options.out);
  EXPECT_EQ(corpus.vocabulary_size(), 70001);
  EXPECT_EQ(tokens_of(corpus, "valid").back(), 69999);
  EXPECT_EQ(nlohmann::json::parse(read_text(options.out / "corpus.json")).at("dtype"), "uint32");
}

TEST(Prepare, AModelFileServesAsTokenizer) {
  const Scratch scratch;
  const auto input = write_text(scratch.path() / "t.txt", synthetic_text(50000, 5));
  PrepareOptions options = preparation_of({input}, "train-sentencepiece:400");
  options.out = scratch.path() / "first";
  (void)prepare(options, kSilent);
  options.tokenizer = "sentencepiece:" + (scratch.path() / "first/tokenizer.model").string();
  options.out = scratch.path() / "second";
  (void)prepare(options, kSilent);
  EXPECT_TRUE(content_of(scratch.path() / "first") == content_of(scratch.path() / "second"));
}

TEST(Prepare, TrainingSeesTheTrainPartOnly) {
  const Scratch scratch;
  const std::string train = synthetic_text(60000, 6).substr(0, 60000);
  const auto model = [&](const std::string& text) {
    PrepareOptions options =
        preparation_of({write_text(scratch.path() / "t.txt", text)}, "train-sentencepiece:400");
    options.out = scratch.path() / "corpus";
    options.valid_fraction = 0.5;
    (void)prepare(options, kSilent);
    const std::string content = read_text(options.out / "tokenizer.model");
    std::filesystem::remove_all(options.out);
    return content;
  };
  const std::string other = synthetic_text(60000, 7).substr(0, 60000);
  EXPECT_TRUE(model(train + other) == model(train + std::string(60000, 'z')));
  EXPECT_FALSE(model(other + train) == model(train + other));
}

TEST(PrepareFaults, AllAreReportedTogether) {
  const Scratch scratch;
  PrepareOptions options = preparation_of({scratch.path() / "one", scratch.path() / "two"}, "words");
  options.out = scratch.path();
  options.valid_fraction = 1;
  options.shard_tokens = 0;
  options.jobs = -1;
  const std::string message = failure(options);
  for (const char* part : {"/one: cannot open", "/two: cannot open", "'words': allowed are bytes",
                           "exists already", "--valid-fraction: 1.0", "--shard-tokens: 0", "--jobs: -1"}) {
    EXPECT_THAT(message, HasSubstr(part));
  }
}

TEST(PrepareFaults, TokenizerSpecifications) {
  const Scratch scratch;
  PrepareOptions options = preparation_of({write_text(scratch.path() / "t.txt", "text")});
  options.out = scratch.path() / "corpus";
  for (const char* spec : {"", "sentencepiece:", "train-sentencepiece:", "train-sentencepiece:10",
                           "train-sentencepiece:1e3", "train-sentencepiece:99999999"}) {
    options.tokenizer = spec;
    EXPECT_THAT(failure(options), HasSubstr("--tokenizer: '" + options.tokenizer + "'"));
  }
  options.tokenizer = "sentencepiece:/no/such/model";
  EXPECT_THAT(failure(options), HasSubstr("/no/such/model: no such file"));
  options.tokenizer = "sentencepiece:" + options.inputs[0].string();
  EXPECT_THAT(failure(options), HasSubstr("t.txt: not a SentencePiece model"));
  options.tokenizer = "train-sentencepiece:5000";
  EXPECT_THAT(failure(options), HasSubstr("train-sentencepiece:5000: SentencePiece training"));
}

TEST(PrepareFaults, EmptyAndUnusableInputs) {
  const Scratch scratch;
  PrepareOptions options = preparation_of({write_text(scratch.path() / "t.txt", "")});
  options.out = scratch.path() / "corpus";
  EXPECT_THAT(failure(options), HasSubstr("t.txt: has no text in it"));
  write_text(options.inputs[0], "\n\n \n");
  options.documents = DocumentKind::kBlankLine;
  EXPECT_THAT(failure(options), HasSubstr("no text found"));
  write_text(options.inputs[0], "{}\n");
  options.documents = DocumentKind::kJsonLines;
  EXPECT_THAT(failure(options), HasSubstr("t.txt: line 1: not an object"));
  write_text(options.inputs[0], std::string(300000, 'a') + "\n\xFF");
  options.documents = DocumentKind::kFiles;
  options.tokenizer = "chars";
  EXPECT_THAT(failure(options), HasSubstr("t.txt: invalid UTF-8 (byte 0xFF) at byte 300001"));
  options.tokenizer = "bytes";
  options.split = SplitKind::kDocuments;
  EXPECT_THAT(failure(options), HasSubstr("is empty: 1 documents"));
  EXPECT_THAT(content_of(scratch.path()), Not(testing::Contains(testing::Key(HasSubstr("corpus")))))
      << "a failed run leaves nothing behind";
}

TEST(PrepareFaults, UnreadableInput) {
  if (::geteuid() == 0) GTEST_SKIP() << "root reads every file";
  const Scratch scratch;
  PrepareOptions options = preparation_of({write_text(scratch.path() / "t.txt", "text")});
  std::filesystem::permissions(options.inputs[0], std::filesystem::perms::none);
  options.out = scratch.path() / "corpus";
  EXPECT_THAT(failure(options), HasSubstr("t.txt: cannot open: Permission denied"));
}

}  // namespace
}  // namespace sluice::dataio
