#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace sluice::dataio {

enum class DocumentKind {
  kFiles,
  kBlankLine,
  kJsonLines
};  ///< what a document is: a file, a paragraph, a record's "text"

struct InputFile {
  std::filesystem::path path;
  std::int64_t bytes = 0;
};

struct InputFault {
  std::filesystem::path path;
  std::string reason;
};

/// The files that inputs stand for, and what is wrong with any of them.
struct InputListing {
  std::vector<InputFile> files;
  std::vector<InputFault> faults;
};

/// Files as given; directories recursively, in the order of their paths' bytes, without names that start with
/// a dot.
[[nodiscard]] InputListing list_inputs(const std::vector<std::filesystem::path>& inputs);

enum class PieceStart { kDocument, kContinues };

/// A part of one document. Long documents come in several pieces, cut at line ends where there are any, and
/// never inside a code point.
struct TextPiece {
  std::int64_t begin = 0;  ///< bytes, within the block's text
  std::int64_t end = 0;
  PieceStart start = PieceStart::kDocument;
  std::int64_t file = 0;   ///< index of the input file
  std::int64_t place = 0;  ///< where it starts in that file: byte offset, or line number for JSON lines
};

/// Consecutive pieces: the unit of parallel work. None of its pieces is empty.
struct TextBlock {
  std::string text;
  std::vector<TextPiece> pieces;
  std::int64_t input_bytes = 0;  ///< of the input files that were used up for it

  [[nodiscard]] std::string_view text_of(const TextPiece& piece) const {
    return std::string_view(text).substr(static_cast<std::size_t>(piece.begin),
                                         static_cast<std::size_t>(piece.end - piece.begin));
  }
};

/// Input files as a stream of documents, in bounded memory: a few blocks, and the longest JSON line (refused
/// above 64 MiB). Paragraphs are whole lines, parted by lines of nothing but spaces; empty documents are
/// passed over. The blocks, and how a document is cut into pieces, depend on the input alone. One thread at a
/// time.
class DocumentReader {
 public:
  static constexpr std::int64_t kBlockBytes = 1 << 18;

  DocumentReader(std::vector<InputFile> files, DocumentKind kind, std::int64_t block_bytes = kBlockBytes);
  ~DocumentReader();
  DocumentReader(const DocumentReader&) = delete;
  DocumentReader& operator=(const DocumentReader&) = delete;

  /// The next block, or nothing at the end. Throws DataError naming the file, and the line for JSON lines.
  [[nodiscard]] std::optional<TextBlock> next();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace sluice::dataio
