#include "dataio/tokenizer.h"

#include <xxhash.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <stdexcept>

#include "dataio/error.h"
#include "dataio/files.h"
#include "dataio/tokenizer_file.h"
#include "dataio/utf8.h"

namespace sluice::dataio {
namespace {

using Json = nlohmann::ordered_json;

constexpr const char* kFormat = "sluice-tokenizer";
constexpr const char* kMaskToken = "mask_token";
constexpr std::int64_t kVersion = 1;

std::vector<char32_t> code_points(const std::string& text) {
  std::vector<char32_t> characters;
  for (std::int64_t at = 0; at < static_cast<std::int64_t>(text.size());) {
    const CodePoint c = code_point_at(text, at);
    if (c.bytes == 0) throw std::invalid_argument(invalid_utf8_message(text, at, at));
    characters.push_back(c.value);
    at += c.bytes;
  }
  return characters;
}

void check_model(const std::string& model, const Json& json, const std::filesystem::path& path) {
  if (model.empty()) throw DataError(path, "missing");
  const std::string digest = hex64(XXH3_64bits(model.data(), model.size()));
  const auto expected = json.at("model_xxh3").get<std::string>();
  if (digest != expected) {
    throw DataError(path, "damaged: its XXH3-64 is " + digest + ", " + kTokenizerFile + " says " + expected);
  }
}

std::unique_ptr<Tokenizer> make(const Json& json, const std::string& model,
                                const std::filesystem::path& directory) {
  if (json.at("format").get<std::string>() != kFormat) {
    throw std::invalid_argument("format is not " + std::string(kFormat));
  }
  const auto version = json.at("version").get<std::int64_t>();
  if (version != kVersion) {
    throw std::invalid_argument("version " + std::to_string(version) + ", this program reads version 1");
  }
  const auto kind = json.at("kind").get<std::string>();
  const MaskToken mask = json.contains(kMaskToken) ? MaskToken::kAdd : MaskToken::kNone;
  if (kind == "bytes") return make_byte_tokenizer(mask);
  if (kind == "chars")
    return make_char_tokenizer(code_points(json.at("characters").get<std::string>()), mask);
  if (kind == "sentencepiece") {
    check_model(model, json, directory / kTokenizerModelFile);
    return make_sentencepiece_tokenizer(model, mask);
  }
  if (kind == kExternalKind) {
    return make_external_tokenizer(json.at("name").get<std::string>(),
                                   json.at("vocabulary_size").get<std::int64_t>(),
                                   json.at("end_of_document").get<std::int32_t>());
  }
  throw std::invalid_argument("kind '" + kind + "': allowed are bytes, chars, sentencepiece, external");
}

void check_mask_token(const Json& json, const Tokenizer& tokenizer) {
  if (!json.contains(kMaskToken)) return;  // as before there were any
  const auto said = json.at(kMaskToken).get<std::int64_t>();
  if (tokenizer.mask_token() == said) return;
  throw std::invalid_argument("mask_token " + std::to_string(said) + ", but its content has " +
                              std::to_string(tokenizer.mask_token().value_or(-1)));
}

}  // namespace

std::vector<std::int32_t> Tokenizer::special_tokens() const {
  std::vector<std::int32_t> ids;
  if (end_of_document() != kNoEndOfDocument) ids.push_back(end_of_document());
  if (const auto mask = mask_token()) ids.push_back(*mask);
  std::sort(ids.begin(), ids.end());
  return ids;
}

void Tokenizer::save(const std::filesystem::path& directory) const {
  const TokenizerFiles kept = files();
  if (!kept.model.empty()) write_file(directory / kTokenizerModelFile, kept.model);
  write_file(directory / kTokenizerFile, kept.json);
}

TokenizerFiles tokenizer_files(const Tokenizer& tokenizer, const TokenizerContent& content) {
  Json json{{"format", kFormat},
            {"version", kVersion},
            {"kind", tokenizer.kind()},
            {"vocabulary_size", tokenizer.vocabulary_size()},
            {"end_of_document", tokenizer.end_of_document()}};
  if (const auto mask = tokenizer.mask_token()) json[kMaskToken] = *mask;
  if (!content.characters.empty()) json["characters"] = content.characters;
  if (!content.name.empty()) json["name"] = content.name;
  if (!content.model.empty()) {
    json["model"] = kTokenizerModelFile;
    json["model_xxh3"] = hex64(XXH3_64bits(content.model.data(), content.model.size()));
  }
  return {.json = json.dump(2) + "\n", .model = content.model};
}

TokenizerFiles read_tokenizer_files(const std::filesystem::path& directory) {
  const std::filesystem::path model = directory / kTokenizerModelFile;
  return {.json = read_file(directory / kTokenizerFile),
          .model = std::filesystem::exists(model) ? read_file(model) : ""};
}

std::unique_ptr<Tokenizer> make_tokenizer(const TokenizerFiles& files,
                                          const std::filesystem::path& directory) {
  const std::filesystem::path path = directory / kTokenizerFile;
  try {
    const Json json = Json::parse(files.json);
    auto tokenizer = make(json, files.model, directory);
    const auto vocabulary = json.at("vocabulary_size").get<std::int64_t>();
    const auto end = json.at("end_of_document").get<std::int64_t>();
    if (vocabulary != tokenizer->vocabulary_size() || end != tokenizer->end_of_document()) {
      throw std::invalid_argument("vocabulary_size " + std::to_string(vocabulary) + " and end_of_document " +
                                  std::to_string(end) + ", but its content has " +
                                  std::to_string(tokenizer->vocabulary_size()) + " and " +
                                  std::to_string(tokenizer->end_of_document()));
    }
    check_mask_token(json, *tokenizer);
    return tokenizer;
  } catch (const DataError&) {
    throw;
  } catch (const std::exception& e) {
    throw DataError(path, std::string("not a tokenizer: ") + e.what());
  }
}

std::unique_ptr<Tokenizer> load_tokenizer(const std::filesystem::path& directory) {
  return make_tokenizer(read_tokenizer_files(directory), directory);
}

}  // namespace sluice::dataio
