#include "dataio/prepare.h"

#include <algorithm>
#include <cmath>
#include <optional>
#include <stdexcept>

#include "dataio/corpus_writer.h"
#include "dataio/error.h"
#include "dataio/ordered_pipeline.h"
#include "dataio/prepare_plan.h"
#include "dataio/prepare_tokenizer.h"
#include "dataio/spool.h"
#include "dataio/staging.h"
#include "dataio/utf8.h"

namespace sluice::dataio {
namespace {

using Progress = std::function<void(const PrepareProgress&)>;

struct EncodedPiece {
  PieceStart start = PieceStart::kDocument;
  SplitName split = SplitName::kTrain;  ///< of the document that starts here
  std::int64_t tokens = 0;
  std::int64_t bytes = 0;
  std::int64_t characters = 0;
};

struct EncodedBlock {
  std::string tokens;  ///< of all pieces, in the width of the shards
  std::vector<EncodedPiece> pieces;
  std::int64_t input_bytes = 0;
};

class Encoder {
 public:
  Encoder(const PreparePlan& plan, const Tokenizer& tokenizer)
      : plan_(plan), tokenizer_(tokenizer), element_bytes_(element_bytes_for(tokenizer.vocabulary_size())) {}

  [[nodiscard]] EncodedBlock encode(const TextBlock& block) const {
    EncodedBlock encoded;
    encoded.input_bytes = block.input_bytes;
    std::vector<std::int32_t> ids;
    for (const TextPiece& piece : block.pieces) {
      const std::string_view text = block.text_of(piece);
      const std::size_t before = ids.size();
      encode_piece(piece, text, ids);
      const bool by_document = plan_.split == SplitKind::kDocuments && piece.start == PieceStart::kDocument;
      encoded.pieces.push_back(
          {.start = piece.start,
           .split = by_document ? split_of_document(text, plan_.valid_fraction) : SplitName::kTrain,
           .tokens = static_cast<std::int64_t>(ids.size() - before),
           .bytes = static_cast<std::int64_t>(text.size()),
           .characters = count_characters(text)});
    }
    encoded.tokens = pack_tokens(ids, element_bytes_);
    return encoded;
  }

  [[nodiscard]] std::int64_t element_bytes() const { return element_bytes_; }

 private:
  void encode_piece(const TextPiece& piece, std::string_view text, std::vector<std::int32_t>& ids) const {
    try {
      tokenizer_.encode(text, ids);
    } catch (const std::invalid_argument& e) {
      const bool lines = plan_.documents == DocumentKind::kJsonLines;
      throw DataError(plan_.files[static_cast<std::size_t>(piece.file)].path,
                      std::string(e.what()) + " (counted from " + (lines ? "the text of line " : "byte ") +
                          std::to_string(piece.place) + ")");
    }
  }

  const PreparePlan& plan_;
  const Tokenizer& tokenizer_;
  std::int64_t element_bytes_ = 0;
};

/// Where a stretch of tokens ends, and how much text it stands for.
struct Mark {
  std::int64_t tokens = 0;
  std::int64_t bytes = 0;
  std::int64_t characters = 0;
};

/// One stream of documents with the end-of-document token between them.
class Stream {
 public:
  Stream(const std::filesystem::path& directory, const std::string& name, const Tokenizer& tokenizer)
      : spool_(directory, name, tokenizer.vocabulary_size()), end_of_document_(tokenizer.end_of_document()) {}

  void append(const EncodedPiece& piece, std::string_view tokens) {
    if (piece.start == PieceStart::kDocument) {
      if (total_.tokens > 0) spool_.append(end_of_document_);
      spool_.begin_document();
    }
    spool_.append(tokens);
    total_ = {spool_.tokens(), total_.bytes + piece.bytes, total_.characters + piece.characters};
  }

  /// Remembers this place, so that text can be measured up to any token without reading everything again.
  void mark() { marks_.push_back(total_); }

  /// The text that the first `tokens` tokens stand for.
  [[nodiscard]] Mark measure(std::int64_t tokens, const Tokenizer& tokenizer) const {
    const auto after =
        std::upper_bound(marks_.begin(), marks_.end(), tokens,
                         [](std::int64_t value, const Mark& mark) { return value < mark.tokens; });
    const Mark before = after == marks_.begin() ? Mark{} : *(after - 1);
    const std::string text = tokenizer.decode(spool_.read(before.tokens, tokens));
    return {tokens, std::min(before.bytes + static_cast<std::int64_t>(text.size()), total_.bytes),
            std::min(before.characters + count_characters(text), total_.characters)};
  }

  [[nodiscard]] Spool& spool() { return spool_; }
  [[nodiscard]] const Spool& spool() const { return spool_; }
  [[nodiscard]] const Mark& total() const { return total_; }

 private:
  Spool spool_;
  std::int32_t end_of_document_ = 0;
  Mark total_;
  std::vector<Mark> marks_;  ///< one for each block of text: 24 bytes for 256 KiB
};

SplitDraft draft(SplitName name, const Stream& stream, const Mark& begin, const Mark& end) {
  return {.name = name_of(name),
          .spool = &stream.spool(),
          .begin = begin.tokens,
          .end = end.tokens,
          .text_bytes = end.bytes - begin.bytes,
          .text_characters = end.characters - begin.characters};
}

/// One run of prepare, its parts in the order in which they happen.
class Preparation {
 public:
  Preparation(const PreparePlan& plan, const Progress& progress)
      : plan_(plan), progress_(progress), staging_(plan.out), tokenizer_(tokenizer_for(plan, progress)) {
    streams_.emplace_back(staging_.path(), "spool-train", *tokenizer_);
    if (plan_.split == SplitKind::kDocuments)
      streams_.emplace_back(staging_.path(), "spool-valid", *tokenizer_);
  }

  PrepareResult run() {
    encode();
    const std::vector<SplitDraft> splits = draft_splits();
    check(splits);
    write(splits);
    for (Stream& stream : streams_) stream.spool().remove();
    staging_.publish();
    return {.train_tokens = splits[0].end - splits[0].begin,
            .valid_tokens = splits[1].end - splits[1].begin,
            .documents = documents_,
            .input_bytes = plan_.input_bytes,
            .vocabulary_size = tokenizer_->vocabulary_size()};
  }

 private:
  void encode() {
    DocumentReader reader(plan_.files, plan_.documents);
    const Encoder encoder(plan_, *tokenizer_);
    PrepareProgress state{"tokens", 0, plan_.input_bytes};
    OrderedPipeline<TextBlock, EncodedBlock> pipeline(
        [&] { return reader.next(); }, [&](const TextBlock& block) { return encoder.encode(block); });
    pipeline.run(plan_.jobs, [&](const EncodedBlock& block) {
      append(block, encoder.element_bytes());
      state.done_bytes += block.input_bytes;
      progress_(state);
    });
    for (Stream& stream : streams_) stream.spool().finish();
  }

  void append(const EncodedBlock& block, std::int64_t element_bytes) {
    std::string_view rest = block.tokens;
    for (const EncodedPiece& piece : block.pieces) {
      if (piece.start == PieceStart::kDocument) {
        current_ = piece.split == SplitName::kValid ? 1 : 0;
        ++documents_;
      }
      const auto bytes = static_cast<std::size_t>(piece.tokens * element_bytes);
      streams_[current_].append(piece, rest.substr(0, bytes));
      rest.remove_prefix(bytes);
    }
    for (Stream& stream : streams_) stream.mark();
  }

  [[nodiscard]] std::vector<SplitDraft> draft_splits() const {
    if (plan_.split == SplitKind::kDocuments) {
      return {draft(SplitName::kTrain, streams_[0], {}, streams_[0].total()),
              draft(SplitName::kValid, streams_[1], {}, streams_[1].total())};
    }
    const Mark& total = streams_[0].total();
    const auto train =
        static_cast<std::int64_t>((1 - plan_.valid_fraction) * static_cast<double>(total.tokens));
    const Mark border = streams_[0].measure(train, *tokenizer_);
    return {draft(SplitName::kTrain, streams_[0], {}, border),
            draft(SplitName::kValid, streams_[0], border, total)};
  }

  void check(const std::vector<SplitDraft>& splits) const {
    const auto& input = plan_.files.front().path;
    if (documents_ == 0) throw DataError(input, "no text found in the input");
    for (const SplitDraft& split : splits) {
      const bool wanted = split.name == name_of(SplitName::kTrain) || plan_.valid_fraction > 0;
      if (!wanted || split.end > split.begin) continue;
      throw DataError(input, "the split " + split.name + " is empty: " + std::to_string(documents_) +
                                 " documents in all, --valid-fraction " +
                                 std::to_string(plan_.valid_fraction));
    }
  }

  void write(const std::vector<SplitDraft>& splits) {
    const std::int64_t element_bytes = element_bytes_for(tokenizer_->vocabulary_size());
    PrepareProgress state{"shards", 0, 0};
    for (const SplitDraft& split : splits) state.total_bytes += (split.end - split.begin) * element_bytes;
    write_corpus(staging_.path(), *tokenizer_, splits, plan_.shard_tokens, [&](std::int64_t bytes) {
      state.done_bytes += bytes;
      progress_(state);
    });
  }

  const PreparePlan& plan_;
  const Progress& progress_;
  StagingDirectory staging_;
  std::unique_ptr<Tokenizer> tokenizer_;
  std::vector<Stream> streams_;
  std::size_t current_ = 0;
  std::int64_t documents_ = 0;
};

}  // namespace

PrepareResult prepare(const PrepareOptions& options, const Progress& progress) {
  const PreparePlan plan = plan_preparation(options);
  const Progress quiet = [](const PrepareProgress&) {};
  return Preparation(plan, progress ? progress : quiet).run();
}

}  // namespace sluice::dataio
