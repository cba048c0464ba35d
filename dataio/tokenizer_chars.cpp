#include <algorithm>
#include <stdexcept>

#include "dataio/tokenizer.h"
#include "dataio/tokenizer_file.h"
#include "dataio/utf8.h"

namespace sluice::dataio {
namespace {

constexpr std::int32_t kUnknown = -1;

class CharTokenizer final : public Tokenizer {
 public:
  CharTokenizer(std::vector<char32_t> characters, MaskToken mask) : characters_(std::move(characters)) {
    std::sort(characters_.begin(), characters_.end());
    characters_.erase(std::unique(characters_.begin(), characters_.end()), characters_.end());
    if (!characters_.empty() && characters_.back() > 0x10FFFF) {
      throw std::invalid_argument("a character above U+10FFFF");
    }
    ids_.assign(characters_.empty() ? 0 : characters_.back() + 1, kUnknown);
    for (std::size_t i = 0; i < characters_.size(); ++i) {
      ids_[characters_[i]] = static_cast<std::int32_t>(i);
    }
    if (mask == MaskToken::kAdd) mask_token_ = end_of_document() + 1;
  }

  std::string kind() const override { return "chars"; }
  std::int64_t vocabulary_size() const override { return mask_token_.value_or(end_of_document()) + 1; }
  std::int32_t end_of_document() const override { return static_cast<std::int32_t>(characters_.size()); }
  std::optional<std::int32_t> mask_token() const override { return mask_token_; }

  void encode(std::string_view text, std::vector<std::int32_t>& out) const override {
    out.reserve(out.size() + text.size());
    const auto size = static_cast<std::int64_t>(text.size());
    for (std::int64_t at = 0; at < size;) {
      const CodePoint c = code_point_at(text, at);
      const std::int32_t id = c.bytes > 0 && c.value < ids_.size() ? ids_[c.value] : kUnknown;
      if (id == kUnknown) refuse(text, at, c);
      out.push_back(id);
      at += c.bytes;
    }
  }

  std::string decode(std::span<const std::int32_t> ids) const override {
    std::string text;
    text.reserve(ids.size());
    for (const std::int32_t id : ids) {
      if (id >= 0 && id < end_of_document()) append_utf8(characters_[static_cast<std::size_t>(id)], text);
    }
    return text;
  }

  TokenizerFiles files() const override {
    TokenizerContent content;
    for (const char32_t c : characters_) append_utf8(c, content.characters);
    return tokenizer_files(*this, content);
  }

 private:
  [[noreturn]] void refuse(std::string_view text, std::int64_t at, CodePoint c) const {
    if (c.bytes == 0) throw std::invalid_argument(invalid_utf8_message(text, at, at));
    throw std::invalid_argument("unknown character " + name_of(c.value) + " at byte " + std::to_string(at) +
                                ": the tokenizer knows " + std::to_string(characters_.size()) +
                                " characters, those of its training text");
  }

  std::vector<char32_t> characters_;  ///< sorted; the index is the id
  std::vector<std::int32_t> ids_;     ///< by code point up to the largest one known
  std::optional<std::int32_t> mask_token_;
};

}  // namespace

std::unique_ptr<Tokenizer> make_char_tokenizer(std::vector<char32_t> characters, MaskToken mask) {
  return std::make_unique<CharTokenizer>(std::move(characters), mask);
}

}  // namespace sluice::dataio
