#include "trainer/train/text_stream.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <stdexcept>

#include "dataio/utf8.h"

namespace sluice::train {
namespace {

/// Decodes a part of a character as U+FFFD and a first word without its space, as a SentencePiece library
/// does.
class WordTokenizer final : public dataio::Tokenizer {
 public:
  std::string kind() const override { return "words"; }
  std::int64_t vocabulary_size() const override { return 5; }
  std::int32_t end_of_document() const override { return 4; }
  void encode(std::string_view, std::vector<std::int32_t>&) const override {
    throw std::logic_error("not used");
  }
  std::string decode(std::span<const std::int32_t> ids) const override {
    std::string text;
    for (std::size_t i = 0; i < ids.size(); ++i) {
      if (ids[i] == 0) text += i == 0 ? "one" : " one";
      if (ids[i] == 1) text += i == 0 ? "two" : " two";
      if (ids[i] == 2 && i + 1 < ids.size() && ids[i + 1] == 3)
        text += "\u00E9", ++i;
      else if (ids[i] == 2 || ids[i] == 3)
        text += "\uFFFD";
    }
    return text;
  }
  dataio::TokenizerFiles files() const override { throw std::logic_error("not used"); }
};

std::string streamed(const dataio::Tokenizer& tokenizer, std::vector<std::int32_t> context,
                     const std::vector<std::int32_t>& ids) {
  TextStream stream(tokenizer, std::move(context));
  std::string text;
  for (const std::int32_t id : ids) text += stream.push(id);
  return text + stream.finish();
}

bool is_utf8(const std::string& text) {
  for (std::int64_t at = 0; at < static_cast<std::int64_t>(text.size());) {
    const auto bytes = dataio::code_point_at(text, at).bytes;
    if (bytes == 0) return false;
    at += bytes;
  }
  return true;
}

RC_GTEST_PROP(TextStream, GivesWholeCharactersAndAllOfAText, ()) {
  const auto points = *rc::gen::container<std::vector<char32_t>>(rc::gen::oneOf(
      rc::gen::inRange<char32_t>(1, 0x80), rc::gen::inRange<char32_t>(0x80, 0x800),
      rc::gen::inRange<char32_t>(0x800, 0xD800), rc::gen::inRange<char32_t>(0x10000, 0x110000)));
  std::string text;
  for (const char32_t point : points) dataio::append_utf8(point, text);
  const auto tokenizer = dataio::make_byte_tokenizer();
  std::vector<std::int32_t> ids;
  tokenizer->encode(text, ids);
  TextStream stream(*tokenizer, {});
  std::string out;
  for (const std::int32_t id : ids) {
    const std::string piece = stream.push(id);
    RC_ASSERT(is_utf8(piece));
    out += piece;
  }
  RC_ASSERT(out == text);  // nothing is left for finish()
  RC_ASSERT(stream.finish().empty());
}

RC_GTEST_PROP(TextStream, AnyBytesGiveUtf8, (const std::vector<std::uint8_t>& bytes)) {
  const auto tokenizer = dataio::make_byte_tokenizer();
  std::vector<std::int32_t> ids;
  tokenizer->encode(std::string(bytes.begin(), bytes.end()), ids);
  RC_ASSERT(is_utf8(streamed(*tokenizer, {}, ids)));
}

TEST(TextStream, BytesThatAreNoCharacterBecomeReplacements) {
  const auto tokenizer = dataio::make_byte_tokenizer();
  EXPECT_EQ(streamed(*tokenizer, {}, {'a', 0xFF, 'b'}), "a\uFFFDb");
  EXPECT_EQ(streamed(*tokenizer, {}, {0xC3, 'b'}), "\uFFFDb");
  EXPECT_EQ(streamed(*tokenizer, {}, {'a', 0xC3}), "a\uFFFD");
}

TEST(TextStream, DoesNotHoldBackAByteThatBeginsNothing) {
  const auto tokenizer = dataio::make_byte_tokenizer();
  TextStream stream(*tokenizer, {});
  EXPECT_EQ(stream.push(0xFF), "\uFFFD");
  EXPECT_EQ(stream.push(0xE2), "");
  EXPECT_EQ(stream.push(0x82), "");
  EXPECT_EQ(stream.push(0xAC), "\u20AC");
}

TEST(TextStream, KeepsTheSpaceBetweenWordsOfALibrarysDecoding) {
  const WordTokenizer tokenizer;
  EXPECT_EQ(streamed(tokenizer, {0}, {1, 0}), " two one");
  EXPECT_EQ(streamed(tokenizer, {}, {1, 0}), "two one");
}

TEST(TextStream, WaitsForACharacterThatALibraryDecodesInParts) {
  const WordTokenizer tokenizer;
  EXPECT_EQ(streamed(tokenizer, {0}, {2, 3, 1}), "\u00E9 two");
  EXPECT_EQ(streamed(tokenizer, {0}, {2, 1}), "\uFFFD two");
}

}  // namespace
}  // namespace sluice::train
