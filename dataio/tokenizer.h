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

/// In place of an id: nothing marks the end of a document.
inline constexpr std::int32_t kNoEndOfDocument = -1;
/// The kind of a tokenizer that is known by name alone: its corpora came as token ids.
inline constexpr const char* kExternalKind = "external";
/// Whether a tokenizer that has no mask token gets one: an id of its own behind all others.
enum class MaskToken { kNone, kAdd };

/// What a tokenizer is kept as, in a corpus as files of these names. Equal for equal tokenizers.
struct TokenizerFiles {
  std::string json;     ///< tokenizer.json
  std::string model{};  ///< tokenizer.model: of SentencePiece alone, else empty
  bool operator==(const TokenizerFiles&) const = default;
};

/// Text to token ids and back. Immutable after construction, safe to use from several threads.
/// Four kinds: bytes (256 ids + end of document), chars (one id per character of the training text),
/// sentencepiece, and external, which knows no text.
class Tokenizer {
 public:
  virtual ~Tokenizer() = default;

  /// "bytes", "chars", "sentencepiece" or "external".
  [[nodiscard]] virtual std::string kind() const = 0;
  /// Number of ids, those that stand for no text included; ids are 0 ... vocabulary_size() - 1.
  [[nodiscard]] virtual std::int64_t vocabulary_size() const = 0;
  /// The id written between documents; kNoEndOfDocument where an external one has none.
  [[nodiscard]] virtual std::int32_t end_of_document() const = 0;
  /// The id that hides a token from a masked language model; none where there is none.
  [[nodiscard]] virtual std::optional<std::int32_t> mask_token() const { return std::nullopt; }
  /// The ids that stand for no text, ascending: end of document, mask token, and what else a kind has.
  [[nodiscard]] virtual std::vector<std::int32_t> special_tokens() const;
  /// Appends the ids of `text` to `out`, no special ones. Throws std::invalid_argument naming the
  /// character (as U+XXXX and as itself) and its byte offset where a text cannot be encoded; external:
  /// always.
  virtual void encode(std::string_view text, std::vector<std::int32_t>& out) const = 0;
  /// The text of `ids`; special ones become nothing. External: throws std::invalid_argument.
  [[nodiscard]] virtual std::string decode(std::span<const std::int32_t> ids) const = 0;
  [[nodiscard]] virtual TokenizerFiles files() const = 0;
  /// Writes files() into `directory`, which must exist, and fsyncs them. Throws DataError.
  void save(const std::filesystem::path& directory) const;
};

/// Reads what save() wrote. Throws DataError.
[[nodiscard]] TokenizerFiles read_tokenizer_files(const std::filesystem::path& directory);
/// Throws DataError naming the file in `directory`, which is where the texts come from.
[[nodiscard]] std::unique_ptr<Tokenizer> make_tokenizer(const TokenizerFiles& files,
                                                        const std::filesystem::path& directory);
/// Both of them.
[[nodiscard]] std::unique_ptr<Tokenizer> load_tokenizer(const std::filesystem::path& directory);

[[nodiscard]] std::unique_ptr<Tokenizer> make_byte_tokenizer(MaskToken mask = MaskToken::kNone);
/// `characters`: the distinct code points of the training text, in any order (kept sorted).
[[nodiscard]] std::unique_ptr<Tokenizer> make_char_tokenizer(std::vector<char32_t> characters,
                                                             MaskToken mask = MaskToken::kNone);
/// `model`: the content of a SentencePiece .model file. Its end-of-document is the model's </s>, or an added
/// id; its mask token the model's control piece [MASK] or <mask>, or an added id. Throws
/// std::invalid_argument where it is not such a model.
[[nodiscard]] std::unique_ptr<Tokenizer> make_sentencepiece_tokenizer(std::string model,
                                                                      MaskToken mask = MaskToken::kNone);
/// Ids alone: encode() and decode() refuse, naming it. Throws std::invalid_argument for an empty name or an
/// end_of_document that is neither an id nor kNoEndOfDocument.
[[nodiscard]] std::unique_ptr<Tokenizer> make_external_tokenizer(std::string name,
                                                                 std::int64_t vocabulary_size,
                                                                 std::int32_t end_of_document);
/// Trains a unigram SentencePiece model that keeps any text exactly (identity normalisation, byte fallback,
/// spaces kept, lines with their newlines) and returns the content of its file. On one thread: the result
/// depends on the arguments alone. With MaskToken::kAdd one of the pieces is the control piece [MASK]. Memory
/// and time grow with the text, so callers pass a sample. Throws std::invalid_argument with the library's
/// reason, as when the text has too little in it for the vocabulary.
[[nodiscard]] std::string train_sentencepiece(std::string_view text, std::int64_t vocabulary_size,
                                              MaskToken mask = MaskToken::kNone);

}  // namespace sluice::dataio
