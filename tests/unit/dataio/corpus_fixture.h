#pragma once

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <vector>

#include "dataio/shard.h"
#include "tests/unit/dataio/scratch.h"

namespace sluice::dataio::testing {

/// Token ids that differ from place to place: a pure function of the place.
inline std::int32_t token_at(std::int64_t place, std::int64_t vocabulary) {
  auto x = static_cast<std::uint64_t>(place) * 0x9e3779b97f4a7c15ULL;
  x ^= x >> 29;
  return static_cast<std::int32_t>(x % static_cast<std::uint64_t>(vocabulary));
}

inline std::vector<std::int32_t> tokens_from(std::int64_t begin, std::int64_t count,
                                             std::int64_t vocabulary) {
  std::vector<std::int32_t> tokens(static_cast<std::size_t>(count));
  for (std::int64_t k = 0; k < count; ++k)
    tokens[static_cast<std::size_t>(k)] = token_at(begin + k, vocabulary);
  return tokens;
}

/// Writes a shard of token_at(first), ...; a document starts at its first token.
inline ShardSummary write_shard(const std::filesystem::path& file, std::int64_t first, std::int64_t tokens,
                                std::int64_t vocabulary) {
  ShardWriter writer(file, tokens, vocabulary);
  if (tokens > 0) writer.begin_document();
  constexpr std::int64_t kPiece = 1 << 20;
  for (std::int64_t done = 0; done < tokens; done += kPiece) {
    writer.append(tokens_from(first + done, std::min(kPiece, tokens - done), vocabulary));
  }
  return writer.close();
}

/// A split of such shards, one after the other in the sequence token_at(0), token_at(1), ...
inline SplitLayout write_split(const std::filesystem::path& directory,
                               const std::vector<std::int64_t>& shard_tokens, std::int64_t vocabulary) {
  SplitLayout split;
  split.name = "train";
  for (const auto tokens : shard_tokens) {
    const auto file = directory / ("train-" + std::to_string(split.shards.size()) + ".h5");
    write_shard(file, split.tokens, tokens, vocabulary);
    split.shards.push_back(open_shard(file));
    split.tokens += tokens;
  }
  return split;
}

/// Changes one bit of a shard's token bytes.
inline void flip_bit(const ShardLayout& shard, std::int64_t token) {
  std::fstream file(shard.file, std::ios::in | std::ios::out | std::ios::binary);
  const auto place = shard.data_offset + token * shard.element_bytes;
  file.seekg(place);
  const auto byte = static_cast<char>(file.get() ^ 1);
  file.seekp(place);
  file.put(byte);
}

inline std::string hex16(std::uint64_t value) {
  std::string text(16, '0');
  for (std::size_t k = 16; k-- > 0; value >>= 4) text[k] = "0123456789abcdef"[value & 15];
  return text;
}

inline void write_json(const std::filesystem::path& file, const nlohmann::json& json) {
  std::ofstream(file) << json.dump(1);
}

inline nlohmann::json read_json(const std::filesystem::path& file) {
  return nlohmann::json::parse(std::ifstream(file));
}

struct SplitSpec {
  std::string name;
  std::vector<std::int64_t> shard_tokens;
};

/// A corpus directory: split k's tokens are token_at(0), token_at(1), ... across its shards.
inline void write_corpus(const std::filesystem::path& directory, const std::vector<SplitSpec>& splits,
                         std::int64_t vocabulary) {
  nlohmann::json json = {
      {"format", "sluice-corpus"},
      {"version", 1},
      {"tokenizer",
       {{"kind", "bytes"}, {"vocabulary_size", vocabulary}, {"end_of_document", vocabulary - 1}}},
      {"dtype", vocabulary <= 65536 ? "uint16" : "uint32"},
      {"fingerprint", "0123456789abcdef"},
      {"splits", nlohmann::json::object()}};
  for (const auto& split : splits) {
    std::int64_t tokens = 0;
    std::int64_t documents = 0;
    auto shards = nlohmann::json::array();
    for (std::size_t k = 0; k < split.shard_tokens.size(); ++k) {
      const auto number = std::to_string(k);
      const auto name = split.name + "-" + std::string(5 - number.size(), '0') + number + ".h5";
      const auto summary = write_shard(directory / name, tokens, split.shard_tokens[k], vocabulary);
      shards.push_back({{"file", name},
                        {"tokens", summary.tokens},
                        {"documents", summary.documents},
                        {"xxh3", hex16(summary.digest)}});
      tokens += summary.tokens;
      documents += summary.documents;
    }
    json["splits"][split.name] = {{"tokens", tokens},
                                  {"documents", documents},
                                  {"text_bytes", tokens},
                                  {"text_characters", tokens},
                                  {"shards", shards}};
  }
  write_json(directory / "corpus.json", json);
}

}  // namespace sluice::dataio::testing
