#include "trainer/train/tokenizer_match.h"

#include <fmt/format.h>

namespace sluice::train {
namespace {

std::string text_of(const NamedTokenizer& tokenizer) {
  const std::int64_t end = tokenizer.end_of_document;
  return fmt::format(
      "{} with {} ids, {}", tokenizer.kind, tokenizer.vocabulary_size,
      end == dataio::kNoEndOfDocument ? "no end of document" : fmt::format("end of document {}", end));
}

}  // namespace

NamedTokenizer tokenizer_of(const dataio::Corpus& corpus) {
  return {.name = corpus.directory().string(),
          .kind = corpus.tokenizer_kind(),
          .vocabulary_size = corpus.vocabulary_size(),
          .end_of_document = corpus.end_of_document(),
          .files = dataio::read_tokenizer_files(corpus.directory())};
}

std::optional<std::string> tokenizer_difference(const NamedTokenizer& one, const NamedTokenizer& other) {
  const std::string ours = text_of(one);
  const std::string theirs = text_of(other);
  if (ours == theirs && one.files == other.files) return std::nullopt;
  return fmt::format("{} has the tokenizer {}, {} has {}{}", one.name, ours, other.name, theirs,
                     ours == theirs ? ", of other content" : "");
}

}  // namespace sluice::train
