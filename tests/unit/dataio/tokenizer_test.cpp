#include "dataio/tokenizer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <fstream>
#include <sstream>
#include <thread>

#include "dataio/error.h"
#include "tests/unit/dataio/scratch.h"

namespace sluice::dataio {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

std::vector<std::int32_t> ids_of(const Tokenizer& tokenizer, std::string_view text) {
  std::vector<std::int32_t> ids;
  tokenizer.encode(text, ids);
  return ids;
}

std::string refusal(const Tokenizer& tokenizer, std::string_view text) {
  try {
    (void)ids_of(tokenizer, text);
  } catch (const std::invalid_argument& e) {
    return e.what();
  }
  return "not refused";
}

/// Code with indentation, runs of spaces, and enough different words for a few hundred pieces.
std::string sample_text() {
  const std::vector<std::string> syllables{"ka",  "tor", "mi",  "len",       "sub", "ra",
                                           "vec", "ion", "ste", "p\xC3\xA9", "du",  "get"};
  std::string text;
  std::uint32_t state = 1;
  const auto word = [&] {
    std::string w;
    for (int i = 0; i < 3; ++i) {
      state = state * 1664525 + 1013904223;
      w += syllables[(state >> 16) % syllables.size()];
    }
    return w;
  };
  for (int i = 0; i < 500; ++i) {
    text += "template <typename " + word() + ">\n  void " + word() + "(int& value) {\n    if (" + word() +
            ".size() > 1";
    text += ") {\n      return " + word() + "(value, \"na\xC3\xAFve\");\n    }\n\n  }\n";
  }
  return text;
}

const Tokenizer& trained() {
  static const auto tokenizer = make_sentencepiece_tokenizer(train_sentencepiece(sample_text(), 400));
  return *tokenizer;
}

/// Texts that hold what tokenizers trip over, among arbitrary code points.
rc::Gen<std::string> utf8_text() {
  const auto code_point =
      rc::gen::oneOf(rc::gen::inRange<char32_t>(0, 0x80), rc::gen::inRange<char32_t>(0x80, 0xD800),
                     rc::gen::inRange<char32_t>(0xE000, 0x110000),
                     rc::gen::element<char32_t>(U' ', U'\n', U'\t', U'\r', U'\0', 0x2581, 0x2585, 0x2047,
                                                0xFFFD, 0xFEFF, 0xFB01));
  const auto character = rc::gen::map(code_point, [](char32_t c) {
    // Independent of the code under test: the arithmetic of the standard, by range.
    std::string s;
    const auto push = [&s](std::uint32_t v) {
      s.push_back(static_cast<char>(static_cast<unsigned char>(v)));
    };
    if (c < 0x80) {
      push(c);
    } else if (c < 0x800) {
      push(0xC0 + c / 64), push(0x80 + c % 64);
    } else if (c < 0x10000) {
      push(0xE0 + c / 4096), push(0x80 + c / 64 % 64), push(0x80 + c % 64);
    } else {
      push(0xF0 + c / 262144), push(0x80 + c / 4096 % 64), push(0x80 + c / 64 % 64), push(0x80 + c % 64);
    }
    return s;
  });
  const auto word =
      rc::gen::element<std::string>("</s>", "<unk>", "<0x41>", "  ", "template", "\n\n", "value.size()");
  return rc::gen::map(rc::gen::container<std::vector<std::string>>(
                          rc::gen::weightedOneOf<std::string>({{4, character}, {1, word}})),
                      [](const std::vector<std::string>& parts) {
                        std::string text;
                        for (const auto& part : parts) text += part;
                        return text;
                      });
}

TEST(ByteTokenizer, IdsAreBytesAndTheEndIs256) {
  const auto t = make_byte_tokenizer();
  EXPECT_EQ(t->vocabulary_size(), 257);
  EXPECT_EQ(t->end_of_document(), 256);
  EXPECT_THAT(ids_of(*t, std::string_view("a\0\xFF", 3)), ElementsAre(97, 0, 255));
  EXPECT_EQ(t->decode(std::vector<std::int32_t>{104, 256, 105}), "hi");
}

RC_GTEST_PROP(ByteTokenizer, AnyBytesRoundTrip, (const std::string& text)) {
  const auto t = make_byte_tokenizer();
  RC_ASSERT(t->decode(ids_of(*t, text)) == text);
}

TEST(CharTokenizer, IdsFollowTheOrderOfCodePoints) {
  const auto t = make_char_tokenizer({U'b', U'\n', 0x1F600, U'a', U'b', 0xE9});
  EXPECT_EQ(t->vocabulary_size(), 6);
  EXPECT_EQ(t->end_of_document(), 5);
  EXPECT_THAT(ids_of(*t, "ab\n\xC3\xA9\xF0\x9F\x98\x80"), ElementsAre(1, 2, 0, 3, 4));
  EXPECT_EQ(t->decode(std::vector<std::int32_t>{4, 5, 3}), "\xF0\x9F\x98\x80\xC3\xA9");
}

TEST(CharTokenizer, RefusesAnUnknownCharacterByName) {
  const auto t = make_char_tokenizer({U'a', U'b'});
  EXPECT_THAT(refusal(*t, "ab\xC3\xA9"), HasSubstr("U+00E9 '\xC3\xA9' at byte 2"));
  EXPECT_THAT(refusal(*t, "a\x07"), HasSubstr("U+0007 at byte 1"));
  EXPECT_THAT(refusal(*t, "a\xF0\x9F\x98\x80"), HasSubstr("U+1F600"));
}

TEST(CharTokenizer, RefusesInvalidUtf8) {
  const auto t = make_char_tokenizer({U'a', 0xE9});
  for (const std::string bad :
       {"\xFF", "\xC3", "\x80", "\xC0\xAF", "\xED\xA0\x80", "\xE0\x80\xAF", "\xF4\x90\x80\x80"}) {
    EXPECT_THAT(refusal(*t, "aa" + bad), HasSubstr("invalid UTF-8")) << testing::PrintToString(bad);
    EXPECT_THAT(refusal(*t, "aa" + bad), HasSubstr("at byte 2"));
  }
}

TEST(SentencePiece, KeepsTheVocabularySizeAskedForAndSavesTokens) {
  EXPECT_EQ(trained().vocabulary_size(), 400);
  const std::string text = sample_text();
  EXPECT_LT(static_cast<double>(ids_of(trained(), text).size()), 0.7 * static_cast<double>(text.size()));
}

RC_GTEST_PROP(SentencePiece, AnyUtf8RoundTrips, ()) {
  const std::string text = *utf8_text();
  const auto ids = ids_of(trained(), text);
  RC_ASSERT(trained().decode(ids) == text);
  RC_ASSERT(std::all_of(ids.begin(), ids.end(), [](std::int32_t id) {
    return id > 1 && id < trained().vocabulary_size();  // neither <unk> nor the end of a document
  }));
}

RC_GTEST_PROP(SentencePiece, AnyBytesRoundTrip, (const std::string& text)) {
  RC_ASSERT(trained().decode(ids_of(trained(), text)) == text);
}

TEST(SentencePiece, WordsMetBeforeGiveTheSameIds) {
  const std::string text = sample_text();
  const auto first = ids_of(trained(), text);
  const auto other = make_sentencepiece_tokenizer(train_sentencepiece(text, 350));
  EXPECT_NE(ids_of(*other, text), first) << "one tokenizer's words are not another's";
  EXPECT_EQ(ids_of(trained(), text), first);
  std::vector<std::int32_t> in_a_fresh_thread;
  std::thread([&] { in_a_fresh_thread = ids_of(trained(), text.substr(text.size() / 2)); }).join();
  EXPECT_TRUE(std::equal(in_a_fresh_thread.rbegin(), in_a_fresh_thread.rbegin() + 1000, first.rbegin()));
}

TEST(SentencePiece, LongLinesRoundTrip) {
  std::string text;
  for (int i = 0; i < 60000; ++i) text += i % 3 == 0 ? "\xE2\x82\xAC" : " x";
  EXPECT_EQ(trained().decode(ids_of(trained(), text)), text);
}

TEST(SentencePiece, TrainingIsDeterministic) {
  EXPECT_EQ(train_sentencepiece(sample_text(), 350), train_sentencepiece(sample_text(), 350));
}

TEST(SentencePiece, SaysWhyATextIsTooSmall) {
  try {
    (void)train_sentencepiece("hello world\n", 5000);
    FAIL() << "trained 5000 pieces on two words";
  } catch (const std::invalid_argument& e) {
    EXPECT_THAT(e.what(), HasSubstr("5000"));
  }
}

TEST(SentencePiece, RefusesWhatIsNoModel) {
  EXPECT_THROW((void)make_sentencepiece_tokenizer("no model"), std::invalid_argument);
  EXPECT_THROW((void)make_sentencepiece_tokenizer(""), std::invalid_argument);
}

TEST(SavedTokenizer, ComesBackTheSame) {
  const std::string text = "if (value) {\n\treturn; }";
  std::vector<char32_t> characters(text.begin(), text.end());
  std::vector<std::unique_ptr<Tokenizer>> all;
  all.push_back(make_byte_tokenizer());
  all.push_back(make_char_tokenizer(characters));
  all.push_back(make_sentencepiece_tokenizer(train_sentencepiece(sample_text(), 350)));
  for (const auto& tokenizer : all) {
    const Scratch scratch;
    tokenizer->save(scratch.path());
    const auto loaded = load_tokenizer(scratch.path());
    EXPECT_EQ(loaded->kind(), tokenizer->kind());
    EXPECT_EQ(loaded->vocabulary_size(), tokenizer->vocabulary_size());
    EXPECT_EQ(loaded->end_of_document(), tokenizer->end_of_document());
    EXPECT_EQ(ids_of(*loaded, text), ids_of(*tokenizer, text));
    EXPECT_EQ(loaded->decode(ids_of(*tokenizer, text)), text);
  }
}

TEST(ExternalTokenizer, IsKnownByNameAndRefusesText) {
  const Scratch scratch;
  make_external_tokenizer("gpt2", 50257, 50256)->save(scratch.path());
  const auto loaded = load_tokenizer(scratch.path());
  EXPECT_EQ(loaded->kind(), "external");
  EXPECT_EQ(loaded->vocabulary_size(), 50257);
  EXPECT_EQ(loaded->end_of_document(), 50256);
  std::vector<std::int32_t> ids;
  EXPECT_THROW(loaded->encode("", ids), std::invalid_argument);
  EXPECT_THROW((void)loaded->decode(ids), std::invalid_argument);
  EXPECT_EQ(make_external_tokenizer("none", 2, kNoEndOfDocument)->end_of_document(), -1);
  EXPECT_THROW((void)make_external_tokenizer("", 2, 1), std::invalid_argument);
  EXPECT_THROW((void)make_external_tokenizer("beyond", 2, 2), std::invalid_argument);
}

TEST(MaskToken, IsAnIdOfItsOwnThatNoTextHas) {
  const auto bytes = make_byte_tokenizer(MaskToken::kAdd);
  const auto chars = make_char_tokenizer({U'b', U'a'}, MaskToken::kAdd);
  const auto added = [] {
    const Scratch scratch;
    trained().save(scratch.path());
    std::ifstream file(scratch.path() / "tokenizer.model", std::ios::binary);
    std::ostringstream model;
    model << file.rdbuf();
    return make_sentencepiece_tokenizer(model.str(), MaskToken::kAdd);
  }();
  EXPECT_EQ(bytes->mask_token(), 257);
  EXPECT_EQ(chars->mask_token(), 3);
  EXPECT_EQ(added->mask_token(), 400) << "behind the 400 pieces of a model that has none";
  for (const Tokenizer* tokenizer : {bytes.get(), chars.get(), added.get()}) {
    const std::int32_t mask = tokenizer->mask_token().value();
    EXPECT_EQ(tokenizer->vocabulary_size(), mask + 1);
    EXPECT_THAT(tokenizer->special_tokens(), testing::IsSupersetOf({tokenizer->end_of_document(), mask}));
    std::vector<std::int32_t> ids = ids_of(*tokenizer, "ab");
    ids.push_back(mask);
    EXPECT_EQ(tokenizer->decode(ids), "ab");
    const Scratch scratch;
    tokenizer->save(scratch.path());
    const auto loaded = load_tokenizer(scratch.path());
    EXPECT_EQ(loaded->mask_token(), mask);
    EXPECT_EQ(loaded->special_tokens(), tokenizer->special_tokens());
  }
  EXPECT_THAT(bytes->special_tokens(), ElementsAre(256, 257));
  EXPECT_EQ(make_byte_tokenizer()->mask_token(), std::nullopt);
  EXPECT_EQ(trained().mask_token(), std::nullopt);
  EXPECT_THAT(trained().special_tokens(), ElementsAre(1)) << "the unknown piece and bytes are text";
}

TEST(MaskToken, IsOneOfTheTrainedPieces) {
  const auto tokenizer =
      make_sentencepiece_tokenizer(train_sentencepiece(sample_text(), 400, MaskToken::kAdd));
  EXPECT_EQ(tokenizer->vocabulary_size(), 400);
  const std::int32_t mask = tokenizer->mask_token().value();
  EXPECT_THAT(tokenizer->special_tokens(), testing::UnorderedElementsAre(1, mask));
  EXPECT_EQ(tokenizer->decode(std::vector<std::int32_t>{mask}), "");
  const auto ids = ids_of(*tokenizer, "the text [MASK] is text");
  EXPECT_EQ(std::ranges::count(ids, mask), 0);
  EXPECT_EQ(tokenizer->decode(ids), "the text [MASK] is text");
}

TEST(MaskToken, AFileThatNamesAnotherIdIsRefused) {
  const Scratch scratch;
  std::ofstream(scratch.path() / "tokenizer.json")
      << R"({"format":"sluice-tokenizer","version":1,"kind":"bytes","vocabulary_size":258,"end_of_document":256,"mask_token":256})";
  try {
    (void)load_tokenizer(scratch.path());
    FAIL() << "loaded";
  } catch (const DataError& e) {
    EXPECT_THAT(e.what(), HasSubstr("mask_token 256, but its content has 257"));
  }
}

TEST(SavedTokenizer, FaultsNameTheFileAndTheReason) {
  const Scratch scratch;
  const auto reason = [&] {
    try {
      (void)load_tokenizer(scratch.path());
    } catch (const DataError& e) {
      return std::string(e.what());
    }
    return std::string("loaded");
  };
  EXPECT_THAT(reason(), HasSubstr("tokenizer.json: cannot open: No such file"));
  const auto write = [&](const std::string& text) {
    std::ofstream(scratch.path() / "tokenizer.json") << text;
  };
  write("{");
  EXPECT_THAT(reason(), HasSubstr("not a tokenizer"));
  write(
      R"({"format":"sluice-tokenizer","version":2,"kind":"bytes","vocabulary_size":257,"end_of_document":256})");
  EXPECT_THAT(reason(), HasSubstr("version 2, this program reads version 1"));
  write(
      R"({"format":"sluice-tokenizer","version":1,"kind":"words","vocabulary_size":257,"end_of_document":256})");
  EXPECT_THAT(reason(), HasSubstr("allowed are bytes, chars, sentencepiece"));
  write(
      R"({"format":"sluice-tokenizer","version":1,"kind":"bytes","vocabulary_size":300,"end_of_document":256})");
  EXPECT_THAT(reason(), HasSubstr("vocabulary_size 300"));
}

TEST(SavedTokenizer, DamagedModelIsNoticed) {
  const Scratch scratch;
  trained().save(scratch.path());
  std::fstream model(scratch.path() / "tokenizer.model", std::ios::in | std::ios::out | std::ios::binary);
  model.seekp(100);
  model.put('\x55');
  model.close();
  try {
    (void)load_tokenizer(scratch.path());
    FAIL() << "loaded a damaged model";
  } catch (const DataError& e) {
    EXPECT_THAT(e.what(), HasSubstr("tokenizer.model: damaged"));
  }
}

}  // namespace
}  // namespace sluice::dataio
