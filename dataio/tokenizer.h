#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace sluice::dataio {

/// Text to token ids and back. Immutable after construction, safe to use from several threads.
/// Three kinds: bytes (256 ids + end of document), chars (one id per character of the training text),
/// sentencepiece.
class Tokenizer {
 public:
  virtual ~Tokenizer() = default;

  /// "bytes", "chars" or "sentencepiece".
  [[nodiscard]] virtual std::string kind() const = 0;
  /// Number of ids, the end-of-document id included; ids are 0 ... vocabulary_size() - 1.
  [[nodiscard]] virtual std::int64_t vocabulary_size() const = 0;
  /// The id written between documents.
  [[nodiscard]] virtual std::int32_t end_of_document() const = 0;
  /// Appends the ids of `text` to `out`, no end-of-document id. Throws std::invalid_argument naming the
  /// character (as U+XXXX and as itself) and its byte offset where a text cannot be encoded.
  virtual void encode(std::string_view text, std::vector<std::int32_t>& out) const = 0;
  /// The text of `ids`; the end-of-document id becomes nothing.
  [[nodiscard]] virtual std::string decode(std::span<const std::int32_t> ids) const = 0;
  /// Writes tokenizer.json (and tokenizer.model for SentencePiece) into `directory`, which must exist.
  virtual void save(const std::filesystem::path& directory) const = 0;
};

/// Reads what save() wrote. Throws DataError.
[[nodiscard]] std::unique_ptr<Tokenizer> load_tokenizer(const std::filesystem::path& directory);

[[nodiscard]] std::unique_ptr<Tokenizer> make_byte_tokenizer();
/// `characters`: the distinct code points of the training text, in any order (kept sorted).
[[nodiscard]] std::unique_ptr<Tokenizer> make_char_tokenizer(std::vector<char32_t> characters);
/// `model`: the content of a SentencePiece .model file. Its end-of-document is the model's </s>, or an added
/// id. Throws std::invalid_argument where it is not such a model.
[[nodiscard]] std::unique_ptr<Tokenizer> make_sentencepiece_tokenizer(std::string model);
/// Trains a unigram SentencePiece model that keeps any text exactly (identity normalisation, byte fallback,
/// spaces kept, lines with their newlines) and returns the content of its file. On one thread: the result
/// depends on the arguments alone. Memory and time grow with the text, so callers pass a sample. Throws
/// std::invalid_argument with the library's reason, as when the text has too little in it for the vocabulary.
[[nodiscard]] std::string train_sentencepiece(std::string_view text, std::int64_t vocabulary_size);

}  // namespace sluice::dataio
