#include "trainer/train/manifest.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "trainer/train/base64.h"
#include "trainer/train/errors.h"
#include "trainer/train/files.h"

namespace sluice::model {
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE_WITH_DEFAULT(
    ModelOptions, kind, layers, d_model, d_ffn, seq_len, tied, positions, causal, scale_embedding, head_bias,
    identical_layers, init, init_std, embedding_std, spatial_init, spatial_init_per_position, norm_eps, seed,
    heads, norm, mlp, gelu, bias, dropout, rotary_base, attention, d_spatial, gate, spatial, spatial_heads,
    gate_activation, gate_norm, tiny_attention, tiny_attention_qkv_bias, token_shift, stochastic_depth)
}  // namespace sluice::model

namespace sluice::train {

NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(TrainingState, step, tokens, next_sample)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(SafetensorsDigests, header, tensors)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(CorpusRecord, fingerprint, weight)

namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;  // keys sorted: the text, and so its digest, is a function of the content

constexpr const char* kFormat = "sluice-checkpoint";

dataio::TokenizerFiles tokenizer_from(const Json& json) {
  return {.json = json.at("tokenizer.json").get<std::string>(),
          .model = bytes_of_base64(json.value("tokenizer.model", ""))};
}

Json json_of(const dataio::TokenizerFiles& tokenizer) {
  Json json = {{"tokenizer.json", tokenizer.json}};
  if (!tokenizer.model.empty()) json["tokenizer.model"] = base64_of(tokenizer.model);
  return json;
}

Manifest from_json(const Json& json, const fs::path& directory) {
  Manifest manifest;
  CheckpointInfo& info = manifest.info;
  info.state = json.at("state").get<TrainingState>();
  info.model = json.at("model").get<model::ModelOptions>();
  info.vocabulary_size = json.at("vocabulary_size").get<std::int64_t>();
  info.corpus_fingerprint = json.at("corpus_fingerprint").get<std::string>();
  info.corpora = json.value("corpora", info.corpora);
  info.world_size = json.at("world_size").get<std::int64_t>();
  info.device = json.value("device", "");
  info.build = json.value("build", "");
  info.choices = json.value("choices", info.choices);
  if (json.contains("products")) {
    const Json& table = json.at("products");
    info.products = table.is_null() ? "" : table.dump();
  }
  info.resolved_ini = json.at("resolved_ini").get<std::string>();
  manifest.tensors = json.at("tensors").get<std::map<std::string, SafetensorsDigests>>();
  manifest.files = json.value("files", manifest.files);
  info.directory = directory;
  info.tokenizer = json.contains("tokenizer") ? tokenizer_from(json.at("tokenizer"))
                                              : dataio::read_tokenizer_files(directory);
  return manifest;
}

void check_format(const Json& json) {
  if (json.value("format", "") != kFormat) throw InputError(fmt::format("format is not {}", kFormat));
  const auto version = json.value("version", std::int64_t{0});
  if (version < 1 || version > kCheckpointVersion) {
    throw InputError(
        fmt::format("format version {}, this program reads 1 to {}", version, kCheckpointVersion));
  }
}

}  // namespace

std::map<std::string, std::string> function_settings(const model::ModelOptions& options) {
  Json settings = options;
  for (const char* key : {"identical_layers", "init", "init_std", "embedding_std", "spatial_init",
                          "spatial_init_per_position", "seed", "dropout", "stochastic_depth"})
    settings.erase(key);
  std::map<std::string, std::string> texts;
  for (const auto& [key, value] : settings.items())
    texts[key] = value.is_string() ? value.get<std::string>() : value.dump();
  return texts;
}

std::string model_text(const model::ModelOptions& options) { return Json(options).dump(); }

std::string manifest_text(const Manifest& manifest) {
  const CheckpointInfo& info = manifest.info;
  Json json = {{"format", kFormat},
               {"version", kCheckpointVersion},
               {"state", info.state},
               {"model", info.model},
               {"vocabulary_size", info.vocabulary_size},
               {"corpus_fingerprint", info.corpus_fingerprint},
               {"world_size", info.world_size},
               {"device", info.device},
               {"build", info.build},
               {"choices", info.choices},
               {"resolved_ini", info.resolved_ini},
               {"tokenizer", json_of(info.tokenizer)},
               {"tensors", manifest.tensors}};
  if (!info.corpora.empty()) json["corpora"] = info.corpora;
  if (info.products) json["products"] = info.products->empty() ? Json() : Json::parse(*info.products);
  json["digest"] = digest_of(json.dump());
  return json.dump(2) + "\n";
}

Manifest read_manifest(const fs::path& directory) {
  const fs::path file = directory / "manifest.json";
  try {
    Json json = Json::parse(read_file(file));
    check_format(json);
    const auto digest = json.at("digest").get<std::string>();
    json.erase("digest");
    if (digest != digest_of(json.dump())) throw InputError("damaged: its own digest does not match");
    return from_json(json, directory);
  } catch (const std::exception& error) {
    throw InputError(fmt::format("{}: {}", file.string(), error.what()));
  }
}

}  // namespace sluice::train
