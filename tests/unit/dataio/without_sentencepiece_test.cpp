// Linked with tokenizer_sentencepiece_missing.cpp in place of the library's tokenizer.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "dataio/error.h"
#include "dataio/prepare.h"
#include "dataio/sentencepiece_support.h"
#include "dataio/tokenizer.h"
#include "tests/unit/dataio/scratch.h"
#include "tests/unit/dataio/text_fixture.h"

namespace sluice::dataio {
namespace {

using testing::AllOf;
using testing::HasSubstr;

const std::filesystem::path kFixtures = SLUICE_FIXTURES;

template <typename Call>
std::string refusal(Call call) {
  try {
    call();
  } catch (const std::exception& error) {
    return error.what();
  }
  return "";
}

TEST(WithoutSentencePiece, PrepareRefusesItsTokenizersBeforeAnythingIsRead) {
  EXPECT_FALSE(has_sentencepiece());
  const Scratch scratch;
  PrepareOptions options;
  options.inputs = {write_text(scratch.path() / "t.txt", "some text\n")};
  options.out = scratch.path() / "corpus";
  for (const std::string tokenizer : {"train-sentencepiece:300", "sentencepiece:t.model"}) {
    options.tokenizer = tokenizer;
    const auto silent = [](const PrepareProgress&) {};
    EXPECT_THAT(refusal([&] { (void)prepare(options, silent); }),
                AllOf(HasSubstr(tokenizer), HasSubstr(kWithoutSentencePiece)));
    EXPECT_FALSE(std::filesystem::exists(options.out));
  }
}

TEST(WithoutSentencePiece, ACorpusMadeWithItSaysWhyItCannotBeUsed) {
  EXPECT_THROW((void)load_tokenizer(kFixtures / "v1/corpus"), DataError);
  EXPECT_THAT(refusal([] { (void)load_tokenizer(kFixtures / "v1/corpus"); }),
              HasSubstr(kWithoutSentencePiece));
  EXPECT_THROW((void)train_sentencepiece("text", 300), DataError);
}

TEST(WithoutSentencePiece, TheOtherTokenizersWork) {
  const auto tokenizer = load_tokenizer(kFixtures / "v1/corpus-chars");
  std::vector<std::int32_t> ids;
  tokenizer->encode("the", ids);
  EXPECT_EQ(tokenizer->decode(ids), "the");
}

}  // namespace
}  // namespace sluice::dataio
