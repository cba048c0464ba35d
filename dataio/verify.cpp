#include "dataio/verify.h"

#include <xxhash.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>

#include "dataio/corpus.h"
#include "dataio/corpus_writer.h"
#include "dataio/error.h"
#include "dataio/files.h"
#include "dataio/shard.h"
#include "dataio/spool.h"
#include "dataio/tokenizer.h"
#include "dataio/utf8.h"

namespace sluice::dataio {
namespace {

using Json = nlohmann::json;

constexpr const char* kCorpusFile = "corpus.json";

/// Everything that is wrong, a line each.
class Findings {
 public:
  explicit Findings(std::filesystem::path directory) : directory_(std::move(directory)) {}

  void add(const std::string& file, const std::string& reason) { lines_.push_back(file + ": " + reason); }

  void add(const DataError& error) {
    const std::string prefix = error.file().string() + ": ";
    add(error.file().lexically_relative(directory_).string(),
        std::string(error.what()).substr(prefix.size()));
  }

  void expect_equal(const std::string& file, const std::string& what, std::int64_t found,
                    std::int64_t expected) {
    if (found != expected)
      add(file, what + " " + std::to_string(found) + ", expected " + std::to_string(expected));
  }

  [[nodiscard]] bool none() const { return lines_.empty(); }
  [[nodiscard]] std::vector<std::string> take() { return std::move(lines_); }

 private:
  std::filesystem::path directory_;
  std::vector<std::string> lines_;
};

/// One walk over a corpus directory.
class Verification {
 public:
  explicit Verification(const std::filesystem::path& directory)
      : directory_(directory), findings_(directory) {}

  std::vector<std::string> run() {
    try {
      json_ = Json::parse(read_file(directory_ / kCorpusFile));
      check_header();
      check_tokenizer();
      check_splits();
      check_strays();
      if (findings_.none()) static_cast<void>(Corpus::open(directory_));  // what opening refuses is wrong too
    } catch (const DataError& e) {
      findings_.add(e);
    } catch (const Json::exception& e) {
      findings_.add(kCorpusFile, e.what());
    }
    return findings_.take();
  }

 private:
  void check_header() {
    if (json_.at("format") != "sluice-corpus") findings_.add(kCorpusFile, "format is not sluice-corpus");
    findings_.expect_equal(kCorpusFile, "version", json_.at("version").get<std::int64_t>(), kFormatVersion);
    vocabulary_ = json_.at("tokenizer").at("vocabulary_size").get<std::int64_t>();
    const std::string dtype = element_bytes_for(vocabulary_) == 2 ? "uint16" : "uint32";
    if (json_.at("dtype") != dtype) findings_.add(kCorpusFile, "dtype is not " + dtype);
  }

  void check_tokenizer() {
    try {
      fingerprint_.emplace(directory_);
      tokenizer_ = load_tokenizer(directory_);
      const Json& said = json_.at("tokenizer");
      if (said.at("kind") != tokenizer_->kind())
        findings_.add(kCorpusFile, "tokenizer kind is not " + tokenizer_->kind());
      findings_.expect_equal(kCorpusFile, "vocabulary_size", vocabulary_, tokenizer_->vocabulary_size());
      findings_.expect_equal(kCorpusFile, "end_of_document", said.at("end_of_document").get<std::int64_t>(),
                             tokenizer_->end_of_document());
    } catch (const DataError& e) {
      findings_.add(e);
      fingerprint_.reset();
    }
  }

  void check_splits() {
    for (const char* name : {"train", "valid"}) {
      if (!json_.at("splits").contains(name)) findings_.add(kCorpusFile, std::string("has no split ") + name);
    }
    for (const auto& [name, split] : json_.at("splits").items()) check_split(name, split);
    const auto said = json_.at("fingerprint").get<std::string>();
    if (fingerprint_ && fingerprint_->digits() != said) {
      findings_.add(kCorpusFile, "fingerprint " + said + ", the content has " + fingerprint_->digits());
    }
  }

  void check_split(const std::string& name, const Json& split) {
    const auto tokens = split.at("tokens").get<std::int64_t>();
    if (fingerprint_) fingerprint_->begin_split(name, tokens);
    text_bytes_ = text_characters_ = 0;
    std::int64_t shard_tokens = 0;
    std::int64_t documents = 0;
    bool whole = true;
    for (const Json& shard : split.at("shards")) {
      const auto file = shard.at("file").get<std::string>();
      listed_.insert(file);
      shard_tokens += shard.at("tokens").get<std::int64_t>();
      documents += shard.at("documents").get<std::int64_t>();
      try {
        check_shard(file, shard);
      } catch (const DataError& e) {
        findings_.add(e);
        fingerprint_.reset();
        whole = false;
      }
    }
    findings_.expect_equal(kCorpusFile, "split " + name + ": tokens", tokens, shard_tokens);
    findings_.expect_equal(kCorpusFile, "split " + name + ": documents",
                           split.at("documents").get<std::int64_t>(), documents);
    if (whole && counts_text()) {
      findings_.expect_equal(kCorpusFile, "split " + name + ": text_bytes",
                             split.at("text_bytes").get<std::int64_t>(), text_bytes_);
      findings_.expect_equal(kCorpusFile, "split " + name + ": text_characters",
                             split.at("text_characters").get<std::int64_t>(), text_characters_);
    }
  }

  void check_shard(const std::string& file, const Json& said) {
    const ShardLayout layout = open_shard(directory_ / file);
    findings_.expect_equal(file, "tokens", layout.tokens, said.at("tokens").get<std::int64_t>());
    findings_.expect_equal(file, "documents", layout.documents, said.at("documents").get<std::int64_t>());
    findings_.expect_equal(file, "vocabulary_size", layout.vocabulary_size, vocabulary_);
    check_documents(file, layout);
    const std::string digest = check_tokens(file, layout);
    const auto expected = said.at("xxh3").get<std::string>();
    if (digest != expected)
      findings_.add(file, "XXH3-64 of all tokens " + digest + ", corpus.json says " + expected);
  }

  void check_documents(const std::string& file, const ShardLayout& layout) {
    std::int64_t before = -1;
    for (const std::int64_t start : read_document_offsets(directory_ / file)) {
      if (start <= before || start >= layout.tokens) {
        findings_.add(file, "document starts at token " + std::to_string(start) + ": must be above " +
                                std::to_string(before) + " and below " + std::to_string(layout.tokens));
        return;
      }
      before = start;
    }
  }

  /// Reads all tokens; the digest of all of them.
  std::string check_tokens(const std::string& name, const ShardLayout& layout) {
    const std::unique_ptr<XXH3_state_t, XXH_errorcode (*)(XXH3_state_t*)> state(XXH3_createState(),
                                                                                XXH3_freeState);
    XXH3_64bits_reset(state.get());
    const File file = File::open_to_read(directory_ / name);
    const std::int64_t bytes = layout.tokens * layout.element_bytes;
    std::string block;
    for (std::int64_t at = 0; at < bytes; at += kDigestBlockBytes) {
      block.resize(static_cast<std::size_t>(std::min(kDigestBlockBytes, bytes - at)));
      file.read_at(layout.data_offset + at, block.data(), static_cast<std::int64_t>(block.size()));
      XXH3_64bits_update(state.get(), block.data(), block.size());
      const auto index = static_cast<std::size_t>(at / kDigestBlockBytes);
      const std::uint64_t digest = XXH3_64bits(block.data(), block.size());
      if (digest != layout.block_digests[index]) {
        findings_.add(name, "MiB " + std::to_string(index) + " of the tokens has digest " + hex64(digest) +
                                ", expected " + hex64(layout.block_digests[index]));
      }
      if (fingerprint_) fingerprint_->add(block);
      check_ids(name, unpack_tokens(block, layout.element_bytes), at / layout.element_bytes);
    }
    return hex64(XXH3_64bits_digest(state.get()));
  }

  void check_ids(const std::string& name, const std::vector<std::int32_t>& ids, std::int64_t first) {
    const auto bad =
        std::find_if(ids.begin(), ids.end(), [&](std::int32_t id) { return id < 0 || id >= vocabulary_; });
    if (bad != ids.end()) {
      findings_.add(name, "token " + std::to_string(first + (bad - ids.begin())) + " is " +
                              std::to_string(*bad) + ", the vocabulary has " + std::to_string(vocabulary_) +
                              " ids");
    }
    if (!counts_text()) return;
    const std::string text = tokenizer_->decode(ids);
    text_bytes_ += static_cast<std::int64_t>(text.size());
    text_characters_ += count_characters(text);
  }

  /// These two kinds decode to exactly the text; a SentencePiece of somebody else need not.
  [[nodiscard]] bool counts_text() const {
    return tokenizer_ && (tokenizer_->kind() == "bytes" || tokenizer_->kind() == "chars");
  }

  void check_strays() {
    for (const auto& entry : std::filesystem::directory_iterator(directory_)) {
      const std::string name = entry.path().filename().string();
      if (name.ends_with(".h5") && !listed_.contains(name))
        findings_.add(name, "is not listed in corpus.json");
    }
  }

  std::filesystem::path directory_;
  Findings findings_;
  Json json_;
  std::int64_t vocabulary_ = 0;
  std::optional<Fingerprint> fingerprint_;  ///< empty once something could not be read
  std::unique_ptr<Tokenizer> tokenizer_;
  std::set<std::string> listed_;
  std::int64_t text_bytes_ = 0;  ///< of the split being read
  std::int64_t text_characters_ = 0;
};

}  // namespace

std::vector<std::string> verify_corpus(const std::filesystem::path& directory) {
  return Verification(directory).run();
}

}  // namespace sluice::dataio
