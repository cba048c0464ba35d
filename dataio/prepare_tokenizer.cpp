#include "dataio/prepare_tokenizer.h"

#include <xxhash.h>

#include <algorithm>
#include <cmath>
#include <stdexcept>

#include "dataio/error.h"
#include "dataio/files.h"
#include "dataio/ordered_pipeline.h"
#include "dataio/utf8.h"

namespace sluice::dataio {
namespace {

using Progress = std::function<void(const PrepareProgress&)>;

/// What a SentencePiece is trained on at most: 1 KiB of text for each piece, within bounds of time (a few
/// seconds for 2 MiB, about a minute for 16) and memory (some 30 bytes for each byte of it).
std::int64_t training_bytes(std::int64_t vocabulary) {
  return std::clamp<std::int64_t>(1024 * vocabulary, 1 << 21, 1 << 24);
}

struct Alphabet {
  std::vector<char32_t> characters;
  std::int64_t input_bytes = 0;
};

[[noreturn]] void refuse(const PreparePlan& plan, const TextBlock& block, const TextPiece& piece,
                         std::int64_t at) {
  const auto& file = plan.files[static_cast<std::size_t>(piece.file)].path;
  const bool lines = plan.documents == DocumentKind::kJsonLines;
  const std::string where = lines ? "the text of line " + std::to_string(piece.place) + " has " : "";
  const std::int64_t byte = lines ? at : piece.place + at;
  throw DataError(file, where + invalid_utf8_message(block.text_of(piece), at, byte) +
                            "; chars needs UTF-8, bytes takes anything");
}

Alphabet alphabet_of(const PreparePlan& plan, const TextBlock& block) {
  std::vector<bool> seen(0x110000, false);
  Alphabet alphabet{{}, block.input_bytes};
  for (const TextPiece& piece : block.pieces) {
    const std::string_view text = block.text_of(piece);
    for (std::int64_t at = 0; at < static_cast<std::int64_t>(text.size());) {
      const CodePoint c = code_point_at(text, at);
      if (c.bytes == 0) refuse(plan, block, piece, at);
      if (!seen[c.value]) {
        seen[c.value] = true;
        alphabet.characters.push_back(c.value);
      }
      at += c.bytes;
    }
  }
  return alphabet;
}

std::unique_ptr<Tokenizer> gather_characters(const PreparePlan& plan, const Progress& progress) {
  DocumentReader reader(plan.files, plan.documents);
  std::vector<bool> seen(0x110000, false);
  PrepareProgress state{"characters", 0, plan.input_bytes};
  OrderedPipeline<TextBlock, Alphabet> pipeline(
      [&] { return reader.next(); }, [&](const TextBlock& block) { return alphabet_of(plan, block); });
  pipeline.run(plan.jobs, [&](const Alphabet& alphabet) {
    for (const char32_t c : alphabet.characters) seen[c] = true;
    state.done_bytes += alphabet.input_bytes;
    progress(state);
  });
  std::vector<char32_t> characters;
  for (char32_t c = 0; c < seen.size(); ++c) {
    if (seen[c]) characters.push_back(c);
  }
  return make_char_tokenizer(std::move(characters), plan.mask_token);
}

/// A sample of lines of the train part, chosen by their number alone.
class TrainingSample {
 public:
  explicit TrainingSample(const PreparePlan& plan)
      : plan_(plan), most_bytes_(training_bytes(plan.vocabulary)) {
    const double train_bytes =
        std::max(1.0, (1 - plan.valid_fraction) * static_cast<double>(plan.input_bytes));
    train_bytes_ = static_cast<std::int64_t>(train_bytes);
    kept_ = std::min(1.0, static_cast<double>(most_bytes_) / train_bytes);
  }

  /// False when no more is needed.
  bool add(const TextBlock& block) {
    for (const TextPiece& piece : block.pieces) {
      const std::string_view text = block.text_of(piece);
      if (plan_.split == SplitKind::kDocuments && piece.start == PieceStart::kDocument) {
        split_ = split_of_document(text, plan_.valid_fraction);
      }
      if (split_ == SplitName::kTrain) add_lines(text);
    }
    return plan_.split == SplitKind::kDocuments || seen_ < train_bytes_;
  }

  [[nodiscard]] const std::string& text() const { return text_; }

 private:
  void add_lines(std::string_view text) {
    constexpr std::uint64_t kSeed = 0x73616D706C65;
    while (!text.empty()) {
      if (plan_.split == SplitKind::kContiguous && seen_ >= train_bytes_) return;
      const std::size_t newline = text.find('\n');
      std::string_view line = text.substr(0, newline == std::string_view::npos ? newline : newline + 1);
      if (plan_.split == SplitKind::kContiguous) {
        line = line.substr(0, static_cast<std::size_t>(train_bytes_ - seen_));
      }
      const std::uint64_t hash = XXH3_64bits_withSeed(&lines_, sizeof lines_, kSeed);
      const bool keep = std::ldexp(static_cast<double>(hash >> 11U), -53) < kept_;
      const std::size_t room = static_cast<std::size_t>(most_bytes_) - text_.size();
      if (keep && line.size() <= room) text_ += line;
      ++lines_;
      seen_ += static_cast<std::int64_t>(line.size());
      text.remove_prefix(line.size());
    }
  }

  const PreparePlan& plan_;
  std::int64_t most_bytes_ = 0;
  std::int64_t train_bytes_ = 0;
  double kept_ = 1;
  SplitName split_ = SplitName::kTrain;
  std::string text_;
  std::int64_t lines_ = 0;
  std::int64_t seen_ = 0;
};

std::unique_ptr<Tokenizer> train(const PreparePlan& plan, const Progress& progress) {
  DocumentReader reader(plan.files, plan.documents);
  TrainingSample sample(plan);
  PrepareProgress state{"training sample", 0, plan.input_bytes};
  while (const auto block = reader.next()) {
    state.done_bytes += block->input_bytes;
    progress(state);
    if (!sample.add(*block)) break;
  }
  progress({"training the tokenizer", 0, static_cast<std::int64_t>(sample.text().size())});
  try {
    return make_sentencepiece_tokenizer(train_sentencepiece(sample.text(), plan.vocabulary, plan.mask_token),
                                        plan.mask_token);
  } catch (const std::invalid_argument& e) {
    throw DataError("--tokenizer",
                    "train-sentencepiece:" + std::to_string(plan.vocabulary) + ": " + e.what());
  }
}

}  // namespace

std::unique_ptr<Tokenizer> tokenizer_for(const PreparePlan& plan, const Progress& progress) {
  switch (plan.tokenizer) {
    case TokenizerSource::kBytes:
      return make_byte_tokenizer(plan.mask_token);
    case TokenizerSource::kChars:
      return gather_characters(plan, progress);
    case TokenizerSource::kTrain:
      return train(plan, progress);
    case TokenizerSource::kModelFile:
      break;
  }
  try {
    return make_sentencepiece_tokenizer(read_file(plan.model), plan.mask_token);
  } catch (const std::invalid_argument& e) {
    throw DataError(plan.model, e.what());
  }
}

}  // namespace sluice::dataio
