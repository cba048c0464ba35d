#include <sentencepiece_processor.h>
#include <sentencepiece_trainer.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdio>
#include <functional>
#include <iterator>
#include <stdexcept>
#include <unordered_map>
#include <utility>

#include "dataio/error.h"
#include "dataio/sentencepiece_support.h"
#include "dataio/tokenizer.h"
#include "dataio/tokenizer_file.h"
#include "dataio/utf8.h"

namespace sluice::dataio {
namespace {

constexpr std::string_view kSpaceMark = "\xE2\x96\x81";  // U+2581, which stands for a space inside pieces
constexpr char32_t kSpaceMarkCode = 0x2581;
constexpr std::int32_t kNoId = -1;
/// As BERT and ALBERT, and as RoBERTa name it.
constexpr std::array<std::string_view, 2> kMaskPieces = {"[MASK]", "<mask>"};
/// A text is encoded line by line, as the training sees it; longer lines are cut, so that memory stays
/// bounded.
constexpr std::int64_t kLongestLine = 1 << 16;

std::string byte_piece(int byte) {
  std::array<char, 8> name{};
  std::snprintf(name.data(), name.size(), "<0x%02X>", static_cast<unsigned>(byte));
  return name.data();
}

/// The text that a piece stands for.
std::string surface(std::string_view piece) {
  std::string text;
  for (std::size_t at = 0; at < piece.size();) {
    const bool mark = piece.substr(at, kSpaceMark.size()) == kSpaceMark;
    text.push_back(mark ? ' ' : piece[at]);
    at += mark ? kSpaceMark.size() : 1;
  }
  return text;
}

/// The end of the line that starts at `begin`, its newline included.
std::int64_t line_end(std::string_view text, std::int64_t begin, std::int64_t longest) {
  const std::size_t newline = text.substr(0, static_cast<std::size_t>(std::min<std::int64_t>(
                                                 begin + longest, static_cast<std::int64_t>(text.size()))))
                                  .find('\n', static_cast<std::size_t>(begin));
  if (newline != std::string_view::npos) return static_cast<std::int64_t>(newline) + 1;
  const std::int64_t cut = character_border(text, begin + longest);
  return cut > begin ? cut : begin + longest;
}

struct WordHash {
  using is_transparent = void;
  std::size_t operator()(std::string_view word) const { return std::hash<std::string_view>{}(word); }
};
using WordCache = std::unordered_map<std::string, std::vector<std::int32_t>, WordHash, std::equal_to<>>;
constexpr std::size_t kCachedWords = 1 << 16;  // of at most so many bytes: some megabytes for each thread
constexpr std::size_t kLongestCachedWord = 64;

/// Tokenizers are numbered, so that a thread's cache knows whose words it holds.
std::uint64_t next_number() {
  static std::atomic<std::uint64_t> last{0};
  return ++last;
}

WordCache& cache_of_this_thread(std::uint64_t tokenizer) {
  thread_local std::uint64_t owner = 0;
  thread_local WordCache cache;
  if (owner != tokenizer) cache.clear();
  owner = tokenizer;
  return cache;
}

/// Two ways in one class. A model that keeps its text (identity normalisation, no dummy prefix, all 256 byte
/// pieces: the ones that train_sentencepiece() makes) round-trips any bytes: what the library would change
/// (invalid UTF-8, a literal U+2581) goes through byte pieces, and decoding is ours. Any other model is left
/// to the library both ways.
class SentencePieceTokenizer final : public Tokenizer {
 public:
  SentencePieceTokenizer(std::string model, MaskToken mask) : model_(std::move(model)) {
    const auto status = processor_.LoadFromSerializedProto(model_);
    if (model_.empty() || !status.ok()) {
      throw std::invalid_argument("not a SentencePiece model: " + std::string(status.message()));
    }
    pieces_ = processor_.GetPieceSize();
    end_of_document_ = processor_.eos_id() >= 0 ? processor_.eos_id() : pieces_;
    mask_token_ = own_mask_token();
    if (!mask_token_ && mask == MaskToken::kAdd) mask_token_ = std::max(pieces_, end_of_document_ + 1);
    number_ = next_number();
    tabulate();
    exact_ = keeps_text();
  }

  std::string kind() const override { return "sentencepiece"; }
  std::int64_t vocabulary_size() const override {
    return std::max({pieces_, end_of_document_ + 1, mask_token_.value_or(kNoId) + 1});
  }
  std::int32_t end_of_document() const override { return end_of_document_; }
  std::optional<std::int32_t> mask_token() const override { return mask_token_; }
  std::vector<std::int32_t> special_tokens() const override {
    std::vector<std::int32_t> ids;
    for (std::int32_t id = 0; id < vocabulary_size(); ++id) {
      if (id >= pieces_ || processor_.IsControl(id) || id == mask_token_) ids.push_back(id);
    }
    return ids;
  }

  void encode(std::string_view text, std::vector<std::int32_t>& out) const override {
    const auto size = static_cast<std::int64_t>(text.size());
    for (std::int64_t begin = 0; begin < size;) {
      const std::int64_t end = line_end(text, begin, kLongestLine);
      const auto line = text.substr(static_cast<std::size_t>(begin), static_cast<std::size_t>(end - begin));
      exact_ ? encode_exactly(line, out) : encode_by_library(line, out);
      begin = end;
    }
  }

  std::string decode(std::span<const std::int32_t> ids) const override {
    return exact_ ? decode_exactly(ids) : decode_by_library(ids);
  }

  TokenizerFiles files() const override {
    return tokenizer_files(*this, {.characters = "", .model = model_});
  }

 private:
  [[nodiscard]] std::optional<std::int32_t> own_mask_token() const {
    for (const std::string_view name : kMaskPieces) {
      const std::int32_t id = processor_.PieceToId(name);
      if (id < 0 || id >= pieces_ || processor_.IdToPiece(id) != name) continue;  // the unknown piece's id
      if (processor_.IsControl(id)) return id;
    }
    return std::nullopt;
  }

  void tabulate() {
    surfaces_.resize(static_cast<std::size_t>(pieces_));
    for (std::int32_t id = 0; id < pieces_; ++id) {
      if (processor_.IsControl(id) || processor_.IsUnknown(id)) continue;
      const std::string text = surface(processor_.IdToPiece(id));
      const std::size_t letters = text.find_first_not_of(' ');
      if (letters != std::string::npos && text.find(' ', letters) != std::string::npos) words_part_ = false;
      surfaces_[static_cast<std::size_t>(id)] = text;
    }
    bytes_.fill(kNoId);
    for (int byte = 0; byte < 256; ++byte) {
      const std::int32_t id = processor_.PieceToId(byte_piece(byte));
      if (id < 0 || !processor_.IsByte(id)) continue;
      bytes_[static_cast<std::size_t>(byte)] = id;
      surfaces_[static_cast<std::size_t>(id)] = std::string(1, static_cast<char>(byte));
    }
  }

  /// Asks the model itself, whoever trained it: the probe holds what normalisations change.
  bool keeps_text() const {
    if (std::find(bytes_.begin(), bytes_.end(), kNoId) != bytes_.end()) return false;
    const std::string probe =
        "  A a\t\te\xCC\x81 \xEF\xAC\x81 \xEF\xBC\xA1 \xE2\x91\xA0\xC2\xA0 \xC3\x89  x\r\n \n";
    std::vector<std::int32_t> ids;
    encode_by_library(probe, ids);
    return decode_exactly(ids) == probe;
  }

  void encode_by_library(std::string_view text, std::vector<std::int32_t>& out) const {
    std::vector<int> ids;
    const auto status = processor_.Encode(text, &ids);
    if (!status.ok()) throw std::invalid_argument("SentencePiece: " + std::string(status.message()));
    out.insert(out.end(), ids.begin(), ids.end());
  }

  /// Word by word where no piece reaches from one word into the next, so that words met before need no
  /// search.
  void encode_words(std::string_view text, std::vector<std::int32_t>& out) const {
    if (!words_part_) {
      encode_by_library(text, out);
      return;
    }
    WordCache& cache = cache_of_this_thread(number_);
    while (!text.empty()) {
      const std::size_t letters = std::min(text.find_first_not_of(' '), text.size());
      const std::string_view word = text.substr(0, text.find(' ', letters));
      text.remove_prefix(word.size());
      if (word.size() > kLongestCachedWord) {
        encode_by_library(word, out);
        continue;
      }
      auto known = cache.find(word);
      if (known == cache.end()) {
        std::vector<std::int32_t> ids;
        encode_by_library(word, ids);
        if (cache.size() >= kCachedWords) cache.clear();
        known = cache.emplace(word, std::move(ids)).first;
      }
      out.insert(out.end(), known->second.begin(), known->second.end());
    }
  }

  void encode_exactly(std::string_view line, std::vector<std::int32_t>& out) const {
    const auto size = static_cast<std::int64_t>(line.size());
    std::int64_t begin = 0;
    const auto flush = [&](std::int64_t end) {
      if (end > begin) {
        encode_words(line.substr(static_cast<std::size_t>(begin), static_cast<std::size_t>(end - begin)),
                     out);
      }
    };
    for (std::int64_t at = 0; at < size;) {
      const CodePoint c = code_point_at(line, at);
      const std::int64_t length = std::max<std::int64_t>(c.bytes, 1);
      if (c.bytes == 0 || c.value == kSpaceMarkCode || c.value == 0) {
        flush(at);
        for (std::int64_t i = 0; i < length; ++i) {
          out.push_back(bytes_[static_cast<unsigned char>(line[static_cast<std::size_t>(at + i)])]);
        }
        begin = at + length;
      }
      at += length;
    }
    flush(size);
  }

  std::string decode_exactly(std::span<const std::int32_t> ids) const {
    std::string text;
    for (const std::int32_t id : ids) {
      if (id >= 0 && id < pieces_) text += surfaces_[static_cast<std::size_t>(id)];
    }
    return text;
  }

  std::string decode_by_library(std::span<const std::int32_t> ids) const {
    std::vector<int> known;
    std::copy_if(ids.begin(), ids.end(), std::back_inserter(known),
                 [this](std::int32_t id) { return id >= 0 && id < pieces_ && id != end_of_document_; });
    std::string text;
    const auto status = processor_.Decode(known, &text);
    if (!status.ok()) throw std::invalid_argument("SentencePiece: " + std::string(status.message()));
    return text;
  }

  std::string model_;
  sentencepiece::SentencePieceProcessor processor_;
  std::int32_t pieces_ = 0;
  std::int32_t end_of_document_ = 0;
  std::optional<std::int32_t> mask_token_;
  bool exact_ = false;
  bool words_part_ = true;  ///< spaces stand only at the beginning of pieces
  std::uint64_t number_ = 0;
  std::vector<std::string> surfaces_;  ///< the text of each id; nothing for control ids
  std::array<std::int32_t, 256> bytes_{};
};

/// Hands a text to the trainer line by line, newlines included.
class Lines final : public sentencepiece::SentenceIterator {
 public:
  Lines(std::string_view text, std::int64_t longest) : text_(text), longest_(longest) { read(); }
  bool done() const override { return begin_ >= static_cast<std::int64_t>(text_.size()); }
  void Next() override {
    begin_ = end_;
    read();
  }
  const std::string& value() const override { return line_; }
  sentencepiece::util::Status status() const override { return {}; }

 private:
  void read() {
    if (done()) return;
    end_ = line_end(text_, begin_, longest_);
    line_.assign(text_.substr(static_cast<std::size_t>(begin_), static_cast<std::size_t>(end_ - begin_)));
    // The trainer drops a line with a NUL in it.
    std::replace(line_.begin(), line_.end(), '\0', ' ');
  }

  std::string_view text_;
  std::int64_t longest_ = 0;
  std::int64_t begin_ = 0;
  std::int64_t end_ = 0;
  std::string line_;
};

}  // namespace

bool has_sentencepiece() { return true; }

std::unique_ptr<Tokenizer> make_sentencepiece_tokenizer(std::string model, MaskToken mask) {
  return std::make_unique<SentencePieceTokenizer>(std::move(model), mask);
}

std::string train_sentencepiece(std::string_view text, std::int64_t vocabulary_size, MaskToken mask) {
  constexpr std::int64_t kLongestSentence = 4000;
  std::unordered_map<std::string, std::string> settings{
      {"model_type", "unigram"},
      {"vocab_size", std::to_string(vocabulary_size)},
      {"byte_fallback", "true"},
      {"normalization_rule_name", "identity"},
      {"remove_extra_whitespaces", "false"},
      {"add_dummy_prefix", "false"},
      {"allow_whitespace_only_pieces", "true"},
      {"split_digits", "true"},
      {"max_sentence_length", std::to_string(2 * kLongestSentence)},
      {"unk_id", "0"},
      {"eos_id", "1"},
      {"bos_id", "-1"},
      {"pad_id", "-1"},
      {"num_threads", "1"},  // sums over threads would make the model depend on their number
      {"minloglevel", "4"},
  };
  if (mask == MaskToken::kAdd) settings["control_symbols"] = kMaskPieces.front();
  Lines lines(text, kLongestSentence);
  std::string model;
  const auto status = sentencepiece::SentencePieceTrainer::Train(settings, &lines, &model);
  if (!status.ok()) throw std::invalid_argument("SentencePiece training: " + std::string(status.message()));
  return model;
}

}  // namespace sluice::dataio
