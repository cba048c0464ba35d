#include "dataio/token_source.h"

#include <algorithm>
#include <string>
#include <string_view>

#include "dataio/files.h"
#include "dataio/token_index.h"

namespace sluice::dataio {
namespace {

constexpr std::int64_t kPieceTokens = 1 << 17;
constexpr std::int64_t kBlockBytes = 1 << 20;

/// Bytes of a file by place, through one block: neighbours cost no call.
class BlockReader {
 public:
  BlockReader(const TokenFile& file)
      : file_(File::open_to_read(file.path)), end_(file.offset + file.tokens * file.type.bytes) {}

  [[nodiscard]] std::string_view read(std::int64_t begin, std::int64_t bytes) {
    if (begin < begin_ || begin + bytes > begin_ + std::ssize(block_)) {
      block_.resize(static_cast<std::size_t>(std::min(std::max(bytes, kBlockBytes), end_ - begin)));
      file_.read_at(begin, block_.data(), std::ssize(block_));
      begin_ = begin;
    }
    return std::string_view(block_).substr(static_cast<std::size_t>(begin - begin_),
                                           static_cast<std::size_t>(bytes));
  }

 private:
  File file_;
  std::int64_t end_ = 0;
  std::int64_t begin_ = 0;
  std::string block_;
};

class FlatSource final : public TokenSource {
 public:
  explicit FlatSource(const TokenFile& file) : file_(file), bytes_(file) {}

  std::optional<TokenPiece> next() override {
    if (done_ == file_.tokens) return std::nullopt;
    const std::int64_t count = std::min(kPieceTokens, file_.tokens - done_);
    TokenPiece piece{.byte = file_.offset + done_ * file_.type.bytes};
    piece.ids = decode_ids(bytes_.read(piece.byte, count * file_.type.bytes), file_.type);
    done_ += count;
    return piece;
  }

 private:
  const TokenFile& file_;
  BlockReader bytes_;
  std::int64_t done_ = 0;
};

class IndexedSource final : public TokenSource {
 public:
  explicit IndexedSource(const TokenFile& file) : file_(file), index_(file), bytes_(file) {}

  std::optional<TokenPiece> next() override {
    while (left_ == 0) {
      const auto sequence = index_.next();
      if (!sequence) return std::nullopt;
      begin_ = sequence->begin;
      left_ = sequence->tokens;
      starts_document_ = starts_document_ || sequence->starts_document;  // an empty sequence hands it on
    }
    const std::int64_t count = std::min(kPieceTokens, left_);
    TokenPiece piece{.byte = begin_, .starts_document = starts_document_};
    piece.ids = decode_ids(bytes_.read(begin_, count * file_.type.bytes), file_.type);
    begin_ += count * file_.type.bytes;
    left_ -= count;
    starts_document_ = false;
    return piece;
  }

 private:
  const TokenFile& file_;
  IndexReader index_;
  BlockReader bytes_;
  std::int64_t begin_ = 0;
  std::int64_t left_ = 0;
  bool starts_document_ = false;
};

}  // namespace

std::unique_ptr<TokenSource> open_tokens(const TokenFile& file) {
  if (file.index.empty()) return std::make_unique<FlatSource>(file);
  return std::make_unique<IndexedSource>(file);
}

}  // namespace sluice::dataio
