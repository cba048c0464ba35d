#include <algorithm>

#include "dataio/tokenizer.h"
#include "dataio/tokenizer_file.h"

namespace sluice::dataio {
namespace {

constexpr std::int32_t kBytes = 256;

class ByteTokenizer final : public Tokenizer {
 public:
  explicit ByteTokenizer(MaskToken mask) {
    if (mask == MaskToken::kAdd) mask_token_ = kBytes + 1;
  }

  std::string kind() const override { return "bytes"; }
  std::int64_t vocabulary_size() const override { return mask_token_.value_or(kBytes) + 1; }
  std::int32_t end_of_document() const override { return kBytes; }
  std::optional<std::int32_t> mask_token() const override { return mask_token_; }

  void encode(std::string_view text, std::vector<std::int32_t>& out) const override {
    const std::size_t before = out.size();
    out.resize(before + text.size());
    std::transform(text.begin(), text.end(), out.begin() + static_cast<std::ptrdiff_t>(before),
                   [](char byte) { return static_cast<std::int32_t>(static_cast<unsigned char>(byte)); });
  }

  std::string decode(std::span<const std::int32_t> ids) const override {
    std::string text;
    text.reserve(ids.size());
    for (const std::int32_t id : ids) {
      if (id >= 0 && id < kBytes) text.push_back(static_cast<char>(id));
    }
    return text;
  }

  TokenizerFiles files() const override { return tokenizer_files(*this, {}); }

 private:
  std::optional<std::int32_t> mask_token_;
};

}  // namespace

std::unique_ptr<Tokenizer> make_byte_tokenizer(MaskToken mask) {
  return std::make_unique<ByteTokenizer>(mask);
}

}  // namespace sluice::dataio
