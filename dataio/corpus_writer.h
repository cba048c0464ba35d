#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "dataio/shard.h"
#include "dataio/spool.h"
#include "dataio/tokenizer.h"

namespace sluice::dataio {

/// One split before it is cut into shards: a stretch of a spool, and the text it stands for.
struct SplitDraft {
  std::string name;
  const Spool* spool = nullptr;
  std::int64_t begin = 0;
  std::int64_t end = 0;
  std::int64_t text_bytes = 0;
  std::int64_t text_characters = 0;
};

/// Writes shards, tokenizer and, last of all, corpus.json into `directory`, each fsynced. The fingerprint is
/// the XXH3-64 of tokenizer.json, tokenizer.model where there is one, and then for each split its name, a
/// zero byte, its number of tokens (8 bytes) and its tokens as stored: where shards are cut does not change
/// it. `written` hears of token bytes done.
void write_corpus(const std::filesystem::path& directory, const Tokenizer& tokenizer,
                  const std::vector<SplitDraft>& splits, std::int64_t shard_tokens,
                  const std::function<void(std::int64_t)>& written);

/// The fingerprint as it grows; verify computes it anew.
class Fingerprint {
 public:
  /// Starts with the tokenizer files in `directory`. Throws DataError.
  explicit Fingerprint(const std::filesystem::path& directory);
  ~Fingerprint();
  Fingerprint(const Fingerprint&) = delete;
  Fingerprint& operator=(const Fingerprint&) = delete;
  void begin_split(const std::string& name, std::int64_t tokens);
  void add(std::string_view token_bytes);
  [[nodiscard]] std::string digits() const;  ///< 16 hex digits

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace sluice::dataio
