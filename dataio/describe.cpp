#include "dataio/describe.h"

#include "dataio/corpus.h"
#include "dataio/error.h"
#include "dataio/files.h"
#include "dataio/shard.h"
#include "dataio/tokenizer.h"

namespace sluice::dataio {
namespace {

SplitDescription describe_split(const SplitLayout& split) {
  SplitDescription description{.name = split.name,
                               .tokens = split.tokens,
                               .documents = split.documents,
                               .text_bytes = split.text_bytes,
                               .text_characters = split.text_characters,
                               .shards = {}};
  for (const ShardLayout& shard : split.shards) {
    const std::filesystem::path file = shard.file;
    description.shards.push_back({.file = file.filename().string(),
                                  .tokens = shard.tokens,
                                  .documents = shard.documents,
                                  .file_bytes = static_cast<std::int64_t>(std::filesystem::file_size(file)),
                                  .xxh3 = hex64(shard.digest)});
  }
  return description;
}

}  // namespace

CorpusSummary describe_corpus(const std::filesystem::path& directory) {
  const Corpus corpus = Corpus::open(directory);
  CorpusSummary summary{.directory = directory,
                        .version = kFormatVersion,
                        .tokenizer_kind = corpus.tokenizer_kind(),
                        .vocabulary_size = corpus.vocabulary_size(),
                        .end_of_document = corpus.end_of_document(),
                        .dtype = corpus.vocabulary_size() <= 65536 ? "uint16" : "uint32",
                        .fingerprint = corpus.fingerprint(),
                        .splits = {}};
  for (const SplitLayout& split : corpus.splits()) summary.splits.push_back(describe_split(split));
  return summary;
}

TokenWindow read_window(const std::filesystem::path& directory, std::string_view split, std::int64_t begin,
                        std::int64_t end) {
  const Corpus corpus = Corpus::open(directory);
  const SplitLayout& layout = corpus.split(split);
  if (begin < 0 || begin > end || end > layout.tokens) {
    throw DataError(directory, "tokens " + std::to_string(begin) + ":" + std::to_string(end) + " of " +
                                   layout.name +
                                   ": allowed are A:B with 0 <= A <= B <= " + std::to_string(layout.tokens));
  }
  TokenWindow window;
  window.ids.resize(static_cast<std::size_t>(end - begin));
  SplitReader(layout, corpus.vocabulary_size(), {}).read(begin, window.ids);
  if (corpus.tokenizer_kind() != kExternalKind) {
    window.text = load_tokenizer(directory)->decode(window.ids);
  }
  return window;
}

}  // namespace sluice::dataio
