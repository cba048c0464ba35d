#include "dataio/documents.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <fstream>

#include "dataio/error.h"
#include "tests/unit/dataio/scratch.h"

namespace sluice::dataio {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

std::filesystem::path write(const Scratch& scratch, const std::string& name, const std::string& text) {
  const auto path = scratch.path() / name;
  std::filesystem::create_directories(path.parent_path());
  std::ofstream(path, std::ios::binary) << text;
  return path;
}

/// All documents, put together from their pieces.
std::vector<std::string> documents_of(const std::vector<std::filesystem::path>& inputs, DocumentKind kind,
                                      std::int64_t block_bytes = DocumentReader::kBlockBytes) {
  DocumentReader reader(list_inputs(inputs).files, kind, block_bytes);
  std::vector<std::string> documents;
  while (const auto block = reader.next()) {
    for (const TextPiece& piece : block->pieces) {
      if (piece.start == PieceStart::kDocument) documents.emplace_back();
      documents.back() += block->text_of(piece);
    }
  }
  return documents;
}

std::string reading_error(const std::filesystem::path& input, DocumentKind kind) {
  try {
    (void)documents_of({input}, kind);
  } catch (const DataError& e) {
    return e.what();
  }
  return "read";
}

TEST(Inputs, DirectoriesAreTakenInSortedOrderWithoutHiddenNames) {
  const Scratch scratch;
  for (const char* name : {"b.txt", "a/z.txt", "a/y/x.txt", "B.txt", ".git/config", "a/.hidden"}) {
    write(scratch, name, "x");
  }
  std::vector<std::string> names;
  for (const auto& file : list_inputs({scratch.path()}).files) {
    names.push_back(file.path.lexically_relative(scratch.path()).string());
  }
  EXPECT_THAT(names, ElementsAre("B.txt", "a/y/x.txt", "a/z.txt", "b.txt"));
}

TEST(Inputs, AllFaultsAreReported) {
  const Scratch scratch;
  std::filesystem::create_directory(scratch.path() / "empty");
  const auto listing = list_inputs(
      {scratch.path() / "none", scratch.path() / "empty", "/dev/null", write(scratch, "good", "x")});
  ASSERT_EQ(listing.faults.size(), 3U);
  EXPECT_THAT(listing.faults[0].reason, HasSubstr("No such file"));
  EXPECT_THAT(listing.faults[1].reason, HasSubstr("no files"));
  EXPECT_THAT(listing.faults[2].reason, HasSubstr("neither a file nor a directory"));
  EXPECT_EQ(listing.files.size(), 1U);
}

TEST(Documents, FilesAreWholeAndEmptyOnesPassedOver) {
  const Scratch scratch;
  EXPECT_THAT(documents_of({write(scratch, "a", "one\n\ntwo"), write(scratch, "b", ""),
                            write(scratch, "c", "three\n")},
                           DocumentKind::kFiles),
              ElementsAre("one\n\ntwo", "three\n"));
}

TEST(Documents, ParagraphsArePartedByBlankLines) {
  const Scratch scratch;
  const auto a = write(scratch, "a", "\n \t\nfirst\nstill first\n\r\n\n  second\n");
  const auto b = write(scratch, "b", "third, without an end");
  EXPECT_THAT(documents_of({a, b}, DocumentKind::kBlankLine),
              ElementsAre("first\nstill first\n", "  second\n", "third, without an end"));
  EXPECT_THAT(documents_of({write(scratch, "c", "\n\n  \n")}, DocumentKind::kBlankLine), IsEmpty());
}

TEST(Documents, JsonLinesGiveTheirText) {
  const Scratch scratch;
  const auto a =
      write(scratch, "a", "{\"text\":\"one\\n\\ntwo\",\"id\":1}\n\n{\"text\":\"\"}\n{\"text\":\"\\u00e9\"}");
  EXPECT_THAT(documents_of({a}, DocumentKind::kJsonLines), ElementsAre("one\n\ntwo", "\xC3\xA9"));
}

TEST(Documents, BadJsonLinesNameFileAndLine) {
  const Scratch scratch;
  const std::string good = "{\"text\":\"x\"}\n\n";
  const auto error = [&](const std::string& line) {
    return reading_error(write(scratch, "a.jsonl", good + line + "\n"), DocumentKind::kJsonLines);
  };
  EXPECT_THAT(error("{\"text\":"), HasSubstr("a.jsonl: line 3: not JSON"));
  EXPECT_THAT(error("[1]"), HasSubstr("line 3: not an object with a \"text\""));
  EXPECT_THAT(error("{\"body\":\"x\"}"), HasSubstr("line 3: not an object with a \"text\""));
  EXPECT_THAT(error("{\"text\":7}"), HasSubstr("line 3: its \"text\" is not a string"));
  EXPECT_THAT(error("{\"text\":\"\xFF\"}"), HasSubstr("line 3: not JSON"));
}

TEST(Documents, RecordsLongerThanABlockAreWhole) {
  const Scratch scratch;
  const std::string text(5 * DocumentReader::kBlockBytes, 'x');
  const auto a = write(scratch, "a", "{\"text\":\"" + text + "\"}\n{\"text\":\"next\"}\n");
  EXPECT_THAT(documents_of({a}, DocumentKind::kJsonLines), ElementsAre(text, "next"));
}

TEST(Documents, PiecesSplitNoCodePoint) {
  const Scratch scratch;
  std::string text;
  for (int i = 0; i < 50; ++i) text += "\xF0\x9F\x98\x80\xE2\x82\xAC\xC3\xA9";
  const auto files = list_inputs({write(scratch, "a", text)}).files;
  for (std::int64_t block = 8; block < 24; ++block) {
    DocumentReader reader(files, DocumentKind::kFiles, block);
    std::string all;
    while (const auto b = reader.next()) {
      for (const TextPiece& piece : b->pieces) {
        const auto part = b->text_of(piece);
        EXPECT_NE(static_cast<unsigned char>(part.front()) & 0xC0U, 0x80U) << "block of " << block;
        all += part;
      }
    }
    EXPECT_EQ(all, text);
  }
}

/// Blank lines, spaces and short words: everything that could be cut in the wrong place.
rc::Gen<std::string> paragraphs() {
  return rc::gen::map(
      rc::gen::container<std::vector<std::string>>(rc::gen::element<std::string>(
          "\n", "\n\n", " ", "\t\n", "\r\n", "a", "word", "longer word of text", "\xE2\x82\xAC")),
      [](const std::vector<std::string>& parts) {
        std::string text;
        for (const auto& part : parts) text += part;
        return text;
      });
}

RC_GTEST_PROP(Documents, ParagraphsDoNotDependOnTheBlockSize, ()) {
  const Scratch scratch;
  const auto a = write(scratch, "a", *paragraphs());
  const auto b = write(scratch, "b", *paragraphs());
  const auto block = *rc::gen::inRange<std::int64_t>(8, 64);
  RC_ASSERT(documents_of({a, b}, DocumentKind::kBlankLine, block) ==
            documents_of({a, b}, DocumentKind::kBlankLine));
}

RC_GTEST_PROP(Documents, FilesComeBackAsTheyAre, (std::vector<std::string> texts)) {
  const Scratch scratch;
  std::vector<std::filesystem::path> paths;
  std::vector<std::string> expected;
  for (const auto& text : texts) {
    paths.push_back(write(scratch, std::to_string(paths.size()), text));
    if (!text.empty()) expected.push_back(text);
  }
  const auto block = *rc::gen::inRange<std::int64_t>(8, 64);
  RC_ASSERT(documents_of(paths, DocumentKind::kFiles, block) == expected);
}

}  // namespace
}  // namespace sluice::dataio
