#include "dataio/corpus.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "dataio/error.h"
#include "dataio/shard.h"
#include "dataio/tokenizer.h"

namespace sluice::dataio {
namespace {

using Json = nlohmann::json;

/// Fields of one JSON object, each fault a DataError that names the file and the field.
class Fields {
 public:
  Fields(const std::filesystem::path& file, const Json& object, std::string where)
      : file_(file), object_(object), where_(std::move(where)) {
    if (!object.is_object()) throw DataError(file_, where_ + " is no JSON object");
  }

  [[nodiscard]] std::string text(const char* key) const {
    const auto& value = at(key);
    if (!value.is_string()) throw DataError(file_, name(key) + " is no string");
    return value.get<std::string>();
  }

  [[nodiscard]] std::int64_t count(const char* key, std::int64_t least = 0) const {
    const auto& value = at(key);
    if (!value.is_number_integer() || value.get<std::int64_t>() < least) {
      throw DataError(file_, name(key) + " is no whole number from " + std::to_string(least) + " up");
    }
    return value.get<std::int64_t>();
  }

  [[nodiscard]] std::uint64_t digest(const char* key) const {
    const auto value = text(key);
    if (value.size() != 16 || value.find_first_not_of("0123456789abcdef") != std::string::npos) {
      throw DataError(file_, name(key) + " is \"" + value + "\", expected 16 hexadecimal digits");
    }
    return std::stoull(value, nullptr, 16);
  }

  [[nodiscard]] Fields object(const char* key) const { return {file_, at(key), name(key)}; }
  [[nodiscard]] const Json& at(const char* key) const {
    const auto found = object_.find(key);
    if (found == object_.end()) throw DataError(file_, name(key) + " is missing");
    return *found;
  }
  [[nodiscard]] std::string name(const std::string& key) const {
    return where_.empty() ? key : where_ + "." + key;
  }
  [[nodiscard]] const Json& json() const { return object_; }
  [[nodiscard]] const std::filesystem::path& file() const { return file_; }

 private:
  const std::filesystem::path& file_;
  const Json& object_;
  std::string where_;
};

Json read_json(const std::filesystem::path& file) {
  std::ifstream in(file, std::ios::binary);
  if (!in) throw DataError(file, std::string("cannot be opened: ") + std::strerror(errno));
  std::ostringstream text;
  text << in.rdbuf();
  try {
    return Json::parse(text.str());
  } catch (const Json::parse_error& error) {
    throw DataError(file, "is no valid JSON (truncated?): " + std::string(error.what()));
  }
}

void check_format(const Fields& corpus) {
  if (const auto format = corpus.text("format"); format != "sluice-corpus") {
    throw DataError(corpus.file(), "has format \"" + format + "\", expected \"sluice-corpus\"");
  }
  if (const auto version = corpus.count("version"); version < 1 || version > kFormatVersion) {
    throw DataError(corpus.file(), "has format version " + std::to_string(version) +
                                       ", this program reads 1 to " + std::to_string(kFormatVersion));
  }
}

void expect_equal(const std::filesystem::path& file, const char* what, std::int64_t found,
                  std::int64_t expected) {
  if (found == expected) return;
  throw DataError(file, "has " + std::string(what) + " " + std::to_string(found) + ", corpus.json says " +
                            std::to_string(expected));
}

ShardLayout open_listed_shard(const std::filesystem::path& directory, const Fields& entry,
                              std::int64_t vocabulary) {
  const auto name = entry.text("file");
  if (name.empty() || name != std::filesystem::path(name).filename()) {
    throw DataError(entry.file(),
                    entry.name("file") + " is \"" + name + "\", expected a file name without a folder");
  }
  const auto file = directory / name;
  auto layout = open_shard(file);
  expect_equal(file, "tokens", layout.tokens, entry.count("tokens"));
  expect_equal(file, "documents", layout.documents, entry.count("documents"));
  expect_equal(file, "vocabulary_size", layout.vocabulary_size, vocabulary);
  layout.digest = entry.digest("xxh3");
  return layout;
}

SplitLayout open_split(const std::filesystem::path& directory, const std::string& name, const Fields& entry,
                       std::int64_t vocabulary) {
  SplitLayout split;
  split.name = name;
  split.tokens = entry.count("tokens");
  split.documents = entry.count("documents");
  split.text_bytes = entry.count("text_bytes");
  split.text_characters = entry.count("text_characters");
  const auto& shards = entry.at("shards");
  if (!shards.is_array()) throw DataError(entry.file(), entry.name("shards") + " is no JSON array");
  std::int64_t tokens = 0;
  std::int64_t documents = 0;
  for (std::size_t k = 0; k < shards.size(); ++k) {
    const Fields shard(entry.file(), shards[k], entry.name("shards[" + std::to_string(k) + "]"));
    split.shards.push_back(open_listed_shard(directory, shard, vocabulary));
    tokens += split.shards.back().tokens;
    documents += split.shards.back().documents;
  }
  if (tokens != split.tokens || documents != split.documents) {
    throw DataError(entry.file(), entry.name("tokens") + " and documents are " +
                                      std::to_string(split.tokens) + " and " +
                                      std::to_string(split.documents) + ", the shards add up to " +
                                      std::to_string(tokens) + " and " + std::to_string(documents));
  }
  return split;
}

constexpr std::string_view kPackedMagic = "SLUICE-CORPUS-PACK-1";

/// Fixed-width little-endian fields, one after the other: the ranks of one run are the same program on like
/// machines.
class Packer {
 public:
  void put(std::string_view text) {
    put(static_cast<std::int64_t>(text.size()));
    bytes_.append(text);
  }
  void put(std::int64_t value) { append(&value, sizeof value); }
  void put(std::uint64_t value) { append(&value, sizeof value); }
  void append(const void* data, std::size_t size) { bytes_.append(static_cast<const char*>(data), size); }
  [[nodiscard]] std::string take() { return std::move(bytes_); }

 private:
  std::string bytes_;
};

class Unpacker {
 public:
  explicit Unpacker(std::string_view bytes) : bytes_(bytes) {}
  [[nodiscard]] std::string text() { return std::string(take(static_cast<std::uint64_t>(count()))); }
  [[nodiscard]] std::int64_t count() { return value<std::int64_t>(); }
  template <typename T>
  [[nodiscard]] T value() {
    T result;
    std::memcpy(&result, take(sizeof result).data(), sizeof result);
    return result;
  }
  /// A number of items of at least `item_bytes` each: a wrong one must not become a huge allocation.
  [[nodiscard]] std::size_t items(std::size_t item_bytes) {
    const auto number = static_cast<std::uint64_t>(count());
    if (number > bytes_.size() / item_bytes) fail();
    return static_cast<std::size_t>(number);
  }
  void finish() const {
    if (!bytes_.empty()) fail();
  }

 private:
  std::string_view take(std::uint64_t size) {
    if (size > bytes_.size()) fail();
    const auto piece = bytes_.substr(0, static_cast<std::size_t>(size));
    bytes_.remove_prefix(piece.size());
    return piece;
  }
  [[noreturn]] static void fail() { throw DataError("packed corpus", "is truncated or of another version"); }
  std::string_view bytes_;
};

}  // namespace

Corpus Corpus::open(const std::filesystem::path& directory) {
  const auto file = directory / "corpus.json";
  const auto json = read_json(file);
  const Fields fields(file, json, "");
  check_format(fields);
  Corpus corpus;
  corpus.directory_ = std::filesystem::absolute(directory);
  corpus.fingerprint_ = fields.text("fingerprint");
  (void)fields.digest("fingerprint");
  const auto tokenizer = fields.object("tokenizer");
  corpus.tokenizer_kind_ = tokenizer.text("kind");
  corpus.vocabulary_size_ = tokenizer.count("vocabulary_size");
  corpus.end_of_document_ = tokenizer.count("end_of_document", kNoEndOfDocument);
  if (corpus.vocabulary_size_ < 1 || corpus.end_of_document_ >= corpus.vocabulary_size_) {
    throw DataError(file, "tokenizer.end_of_document " + std::to_string(corpus.end_of_document_) +
                              " is not below tokenizer.vocabulary_size " +
                              std::to_string(corpus.vocabulary_size_));
  }
  const std::string dtype = corpus.vocabulary_size_ <= 65536 ? "uint16" : "uint32";
  if (const auto found = fields.text("dtype"); found != dtype) {
    throw DataError(file, "dtype is \"" + found + "\", expected \"" + dtype + "\" for a vocabulary of " +
                              std::to_string(corpus.vocabulary_size_));
  }
  const auto splits = fields.object("splits");
  if (splits.json().empty()) throw DataError(file, "has no splits");
  for (const auto& [name, entry] : splits.json().items()) {
    corpus.splits_.push_back(
        open_split(directory, name, Fields(file, entry, splits.name(name)), corpus.vocabulary_size_));
  }
  return corpus;
}

Corpus Corpus::moved_to(const std::filesystem::path& directory) const {
  Corpus moved = *this;
  moved.directory_ = std::filesystem::absolute(directory);
  for (auto& split : moved.splits_)
    for (auto& shard : split.shards)
      shard.file = (moved.directory_ / std::filesystem::path(shard.file).filename()).string();
  return moved;
}

std::string Corpus::pack() const {
  Packer out;
  out.put(kPackedMagic);
  out.put(directory_.string());
  out.put(fingerprint_);
  out.put(tokenizer_kind_);
  out.put(vocabulary_size_);
  out.put(end_of_document_);
  out.put(std::ssize(splits_));
  for (const auto& split : splits_) {
    out.put(split.name);
    for (const auto value : {split.tokens, split.documents, split.text_bytes, split.text_characters,
                             static_cast<std::int64_t>(split.shards.size())}) {
      out.put(value);
    }
    for (const auto& shard : split.shards) {
      out.put(shard.file);
      for (const auto value :
           {shard.tokens, shard.data_offset, std::int64_t{shard.element_bytes}, shard.documents,
            shard.vocabulary_size, static_cast<std::int64_t>(shard.block_digests.size())}) {
        out.put(value);
      }
      out.append(shard.block_digests.data(), shard.block_digests.size() * sizeof(std::uint64_t));
      out.put(shard.digest);
    }
  }
  return out.take();
}

Corpus Corpus::unpack(std::string_view bytes) {
  Unpacker in(bytes);
  if (in.text() != kPackedMagic) throw DataError("packed corpus", "is of another version");
  Corpus corpus;
  corpus.directory_ = in.text();
  corpus.fingerprint_ = in.text();
  corpus.tokenizer_kind_ = in.text();
  corpus.vocabulary_size_ = in.count();
  corpus.end_of_document_ = in.count();
  corpus.splits_.resize(in.items(6 * sizeof(std::int64_t)));
  for (auto& split : corpus.splits_) {
    split.name = in.text();
    split.tokens = in.count();
    split.documents = in.count();
    split.text_bytes = in.count();
    split.text_characters = in.count();
    split.shards.resize(in.items(8 * sizeof(std::int64_t)));
    for (auto& shard : split.shards) {
      shard.file = in.text();
      shard.tokens = in.count();
      shard.data_offset = in.count();
      shard.element_bytes = static_cast<std::int32_t>(in.count());
      shard.documents = in.count();
      shard.vocabulary_size = in.count();
      shard.block_digests.resize(in.items(sizeof(std::uint64_t)));
      for (auto& digest : shard.block_digests) digest = in.value<std::uint64_t>();
      shard.digest = in.value<std::uint64_t>();
    }
  }
  in.finish();
  return corpus;
}

bool Corpus::has_split(std::string_view name) const {
  return std::ranges::any_of(splits_,
                             [&](const auto& split) { return split.name == name && split.tokens > 0; });
}

const SplitLayout& Corpus::split(std::string_view name) const {
  std::string names;
  for (const auto& split : splits_) {
    if (split.name == name && split.tokens > 0) return split;
    names += (names.empty() ? "" : ", ") + split.name + " (" + std::to_string(split.tokens) + " tokens)";
  }
  throw DataError(directory_ / "corpus.json",
                  "has no split \"" + std::string(name) + "\" with tokens in it; it has " + names);
}

}  // namespace sluice::dataio
