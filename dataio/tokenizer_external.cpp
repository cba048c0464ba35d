#include <stdexcept>

#include "dataio/tokenizer.h"
#include "dataio/tokenizer_file.h"

namespace sluice::dataio {
namespace {

class ExternalTokenizer final : public Tokenizer {
 public:
  ExternalTokenizer(std::string name, std::int64_t vocabulary_size, std::int32_t end_of_document)
      : name_(std::move(name)), vocabulary_size_(vocabulary_size), end_of_document_(end_of_document) {}

  std::string kind() const override { return kExternalKind; }
  std::int64_t vocabulary_size() const override { return vocabulary_size_; }
  std::int32_t end_of_document() const override { return end_of_document_; }

  void encode(std::string_view, std::vector<std::int32_t>&) const override { refuse(); }
  std::string decode(std::span<const std::int32_t>) const override { refuse(); }

  TokenizerFiles files() const override { return tokenizer_files(*this, {.name = name_}); }

 private:
  [[noreturn]] void refuse() const {
    throw std::invalid_argument("the tokenizer '" + name_ +
                                "' is not part of sluice (the corpus was made of token ids), so text can "
                                "neither be encoded nor written");
  }

  std::string name_;
  std::int64_t vocabulary_size_ = 0;
  std::int32_t end_of_document_ = kNoEndOfDocument;
};

}  // namespace

std::unique_ptr<Tokenizer> make_external_tokenizer(std::string name, std::int64_t vocabulary_size,
                                                   std::int32_t end_of_document) {
  if (name.empty()) throw std::invalid_argument("an external tokenizer without a name");
  if (vocabulary_size < 1 || end_of_document < kNoEndOfDocument || end_of_document >= vocabulary_size) {
    throw std::invalid_argument("an external tokenizer with vocabulary_size " +
                                std::to_string(vocabulary_size) + " and end_of_document " +
                                std::to_string(end_of_document));
  }
  return std::make_unique<ExternalTokenizer>(std::move(name), vocabulary_size, end_of_document);
}

}  // namespace sluice::dataio
