#include "dataio/corpus_writer.h"

#include <xxhash.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>

#include "dataio/files.h"
#include "dataio/tokenizer_file.h"

namespace sluice::dataio {
namespace {

using OrderedJson = nlohmann::ordered_json;

std::string shard_name(const std::string& split, std::int64_t index) {
  std::array<char, 32> number{};
  std::snprintf(number.data(), number.size(), "-%05lld.h5", static_cast<long long>(index));
  return split + number.data();
}

/// Cuts a split's tokens into shards as they come by.
class ShardCutter {
 public:
  ShardCutter(std::filesystem::path directory, const SplitDraft& split, std::int64_t shard_tokens,
              std::int64_t vocabulary_size)
      : directory_(std::move(directory)),
        split_(split),
        shard_tokens_(shard_tokens),
        vocabulary_size_(vocabulary_size) {}

  void append(const SpoolRun& run) {
    auto rest = run.tokens;
    // What is left of a document that the border between two splits cuts counts as a document of the second
    // one.
    bool starts = run.starts_document || done_ == 0;
    while (!rest.empty()) {
      if (!writer_) open();
      if (starts) writer_->begin_document();
      starts = false;
      const auto part = rest.first(std::min(rest.size(), static_cast<std::size_t>(room_)));
      writer_->append(part);
      room_ -= static_cast<std::int64_t>(part.size());
      done_ += static_cast<std::int64_t>(part.size());
      rest = rest.subspan(part.size());
      if (room_ == 0) close();
    }
  }

  [[nodiscard]] const std::vector<ShardSummary>& shards() const { return shards_; }

 private:
  void open() {
    room_ = std::min(shard_tokens_, split_.end - split_.begin - done_);
    const auto name = shard_name(split_.name, static_cast<std::int64_t>(shards_.size()));
    writer_ = std::make_unique<ShardWriter>(directory_ / name, room_, vocabulary_size_);
  }

  void close() {
    shards_.push_back(writer_->close());
    writer_.reset();
  }

  std::filesystem::path directory_;
  const SplitDraft& split_;
  std::int64_t shard_tokens_ = 0;
  std::int64_t vocabulary_size_ = 0;
  std::unique_ptr<ShardWriter> writer_;
  std::int64_t room_ = 0;
  std::int64_t done_ = 0;
  std::vector<ShardSummary> shards_;
};

OrderedJson describe_split(const SplitDraft& split, const std::vector<ShardSummary>& shards) {
  OrderedJson list = OrderedJson::array();
  std::int64_t documents = 0;
  for (const ShardSummary& shard : shards) {
    documents += shard.documents;
    list.push_back({{"file", shard.file},
                    {"tokens", shard.tokens},
                    {"documents", shard.documents},
                    {"xxh3", hex64(shard.digest)}});
  }
  return {{"tokens", split.end - split.begin},
          {"documents", documents},
          {"text_bytes", split.text_bytes},
          {"text_characters", split.text_characters},
          {"shards", std::move(list)}};
}

}  // namespace

struct Fingerprint::State {
  std::unique_ptr<XXH3_state_t, XXH_errorcode (*)(XXH3_state_t*)> hash{XXH3_createState(), XXH3_freeState};
};

Fingerprint::Fingerprint(const std::filesystem::path& directory) : state_(std::make_unique<State>()) {
  XXH3_64bits_reset(state_->hash.get());
  const TokenizerFiles tokenizer = read_tokenizer_files(directory);
  add(tokenizer.json);
  add(tokenizer.model);
}

Fingerprint::~Fingerprint() = default;

void Fingerprint::begin_split(const std::string& name, std::int64_t tokens) {
  add(std::string_view(name.c_str(), name.size() + 1));
  add(std::string_view(reinterpret_cast<const char*>(&tokens), sizeof tokens));
}

void Fingerprint::add(std::string_view token_bytes) {
  XXH3_64bits_update(state_->hash.get(), token_bytes.data(), token_bytes.size());
}

std::string Fingerprint::digits() const { return hex64(XXH3_64bits_digest(state_->hash.get())); }

void write_corpus(const std::filesystem::path& directory, const Tokenizer& tokenizer,
                  const std::vector<SplitDraft>& splits, std::int64_t shard_tokens,
                  const std::function<void(std::int64_t)>& written) {
  tokenizer.save(directory);
  const std::int64_t vocabulary = tokenizer.vocabulary_size();
  const std::int64_t element_bytes = element_bytes_for(vocabulary);
  Fingerprint fingerprint(directory);
  OrderedJson described;
  for (const SplitDraft& split : splits) {
    ShardCutter cutter(directory, split, shard_tokens, vocabulary);
    fingerprint.begin_split(split.name, split.end - split.begin);
    split.spool->for_each_run(split.begin, split.end, [&](const SpoolRun& run) {
      const std::string bytes = pack_tokens(run.tokens, element_bytes);
      fingerprint.add(bytes);
      cutter.append(run);
      written(static_cast<std::int64_t>(bytes.size()));
    });
    described[split.name] = describe_split(split, cutter.shards());
  }
  const OrderedJson json{{"format", "sluice-corpus"},
                         {"version", kFormatVersion},
                         {"tokenizer",
                          {{"kind", tokenizer.kind()},
                           {"vocabulary_size", vocabulary},
                           {"end_of_document", tokenizer.end_of_document()}}},
                         {"dtype", element_bytes == 2 ? "uint16" : "uint32"},
                         {"fingerprint", fingerprint.digits()},
                         {"splits", std::move(described)}};
  write_file(directory / "corpus.json", json.dump(2) + "\n");
}

}  // namespace sluice::dataio
