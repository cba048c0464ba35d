#include "trainer/train/checkpoint.h"

#include <ATen/core/Tensor.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <charconv>
#include <utility>

#include "trainer/train/errors.h"
#include "trainer/train/files.h"
#include "trainer/train/manifest.h"
#include "trainer/train/safetensors.h"

namespace fs = std::filesystem;

namespace sluice::train {

namespace {

constexpr const char* kWeightsFile = "model.safetensors";
constexpr const char* kOptimizerFile = "optimizer.safetensors";  // of version 1
constexpr const char* kFirstMoment = "first_moment.";
constexpr const char* kSecondMoment = "second_moment.";
constexpr std::string_view kStepPrefix = "step-";

struct FoundCheckpoint {
  std::int64_t step = 0;
  fs::path directory;
};

/// Complete checkpoints by name, newest first. Temporary names do not count.
std::vector<FoundCheckpoint> list_checkpoints(const fs::path& checkpoints) {
  std::vector<FoundCheckpoint> found;
  if (!fs::is_directory(checkpoints)) return found;
  for (const auto& entry : fs::directory_iterator(checkpoints)) {
    const std::string name = entry.path().filename().string();
    if (!name.starts_with(kStepPrefix)) continue;
    std::int64_t step = 0;
    const char* const end = name.data() + name.size();
    const auto parsed = std::from_chars(name.data() + kStepPrefix.size(), end, step);
    if (parsed.ec == std::errc{} && parsed.ptr == end) found.push_back({step, entry.path()});
  }
  std::ranges::sort(found, std::ranges::greater{}, &FoundCheckpoint::step);
  return found;
}

void append_views(std::vector<NamedTensor>& tensors, const std::string& prefix,
                  const parallel::ArenaLayout& layout, const at::Tensor& flat) {
  for (std::size_t i = 0; i < layout.entries().size(); ++i) {
    tensors.push_back({prefix + layout.entries()[i].name, layout.view(flat, static_cast<std::int64_t>(i))});
  }
}

/// Removes what a killed writer left behind.
void remove_temporaries(const fs::path& checkpoints) {
  for (const auto& entry : fs::directory_iterator(checkpoints)) {
    if (entry.path().filename().string().ends_with(kTemporarySuffix)) fs::remove_all(entry.path());
  }
}

void write_content(const fs::path& directory, const CheckpointInfo& info, const parallel::ArenaLayout& layout,
                   const StateBuffers& buffers, const dataio::Tokenizer& tokenizer) {
  Manifest manifest{.info = info, .tensors = {}, .files = {}};
  manifest.info.tokenizer = tokenizer.files();
  std::vector<NamedTensor> tensors;
  append_views(tensors, "", layout, buffers.parameters);
  if (buffers.first_moment.defined()) {
    append_views(tensors, kFirstMoment, layout, buffers.first_moment);
    append_views(tensors, kSecondMoment, layout, buffers.second_moment);
  }
  manifest.tensors[kWeightsFile] = write_safetensors(directory / kWeightsFile, tensors);
  replace_file(directory / "manifest.json", manifest_text(manifest));
}

/// The finished directory gets its name; one of that name (of a step done anew after a fall-back) makes way.
void publish(const fs::path& temporary, const fs::path& target) {
  const fs::path checkpoints = target.parent_path();
  const fs::path old = target.string() + ".old" + std::string(kTemporarySuffix);
  if (fs::exists(target)) fs::rename(target, old);
  fs::rename(temporary, target);
  sync_path(checkpoints);
  fs::remove_all(old);

  const fs::path pointer = checkpoints / ("latest" + std::string(kTemporarySuffix));
  fs::remove(pointer);
  fs::create_directory_symlink(target.filename(), pointer);
  fs::rename(pointer, checkpoints / "latest");
  sync_path(checkpoints);
}

void prune(const fs::path& checkpoints, const CheckpointOptions& retention) {
  std::int64_t kept = 0;
  for (const auto& [step, directory] : list_checkpoints(checkpoints)) {
    const bool for_ever = (retention.keep_every > 0 && step % retention.keep_every == 0) ||
                          std::ranges::find(retention.at, step) != retention.at.end();
    if (kept++ < retention.keep || for_ever) continue;
    const fs::path doomed = directory.string() + std::string(kTemporarySuffix);
    fs::rename(directory, doomed);  // a half removed directory must not look like a checkpoint
    fs::remove_all(doomed);
  }
}

void compare_tensors(const fs::path& file, const SafetensorsDigests& expected,
                     std::vector<std::string>& faults) {
  const SafetensorsFile stored(file);
  if (stored.header_digest() != expected.header)
    faults.push_back(fmt::format("{}: header changed", file.string()));
  for (const auto& [name, digest] : expected.tensors) {
    const StoredTensor* const tensor = stored.find(name);
    if (tensor == nullptr) {
      faults.push_back(fmt::format("{}: tensor {} is missing", file.string(), name));
    } else if (stored.digest(*tensor) != digest) {
      faults.push_back(
          fmt::format("{}: tensor {} is damaged: its digest does not match", file.string(), name));
    }
  }
}

void compare_file(const fs::path& file, const std::string& digest, std::vector<std::string>& faults) {
  if (digest_of(read_file(file)) != digest) {
    faults.push_back(fmt::format("{}: damaged: its digest does not match", file.string()));
  }
}

template <typename Work>
void collect(std::vector<std::string>& faults, Work work) {
  try {
    work();
  } catch (const std::exception& error) {
    faults.emplace_back(error.what());
  }
}

std::string shape_text(const std::vector<std::int64_t>& shape) {
  return fmt::format("[{}]", fmt::join(shape, ", "));
}

/// Copies the tensors PREFIX + name of one file, one by one, and notes everything that does not fit.
void load_flat(const SafetensorsFile& file, const std::string& prefix, const parallel::ArenaLayout& layout,
               const at::Tensor& into, std::vector<std::string>& faults) {
  if (!into.defined()) return;
  for (std::size_t i = 0; i < layout.entries().size(); ++i) {
    const auto& entry = layout.entries()[i];
    const StoredTensor* const stored = file.find(prefix + entry.name);
    if (stored == nullptr) {
      faults.push_back(fmt::format("tensor {}{} is missing", prefix, entry.name));
    } else if (stored->shape != entry.shape) {
      faults.push_back(fmt::format("tensor {}{}: shape {}, expected {}", prefix, entry.name,
                                   shape_text(stored->shape), shape_text(entry.shape)));
    } else {
      layout.view(into, static_cast<std::int64_t>(i)).copy_(file.read(*stored));
    }
  }
  for (const auto& stored : file.tensors()) {
    if (prefix.empty() && is_moment(stored.name)) continue;
    if (stored.name.starts_with(prefix) && !layout.find(stored.name.substr(prefix.size()))) {
      faults.push_back(fmt::format("tensor {} is unknown to this model", stored.name));
    }
  }
}

}  // namespace

fs::path write_checkpoint(const fs::path& run_directory, const CheckpointInfo& info,
                          const parallel::ArenaLayout& layout, const StateBuffers& buffers,
                          const dataio::Tokenizer& tokenizer, const CheckpointOptions& retention) {
  const fs::path checkpoints = run_directory / "checkpoints";
  if (fs::create_directories(checkpoints)) sync_path(run_directory);
  remove_temporaries(checkpoints);
  const fs::path target = checkpoints / fmt::format("{}{:06}", kStepPrefix, info.state.step);
  const fs::path temporary = target.string() + std::string(kTemporarySuffix);
  fs::create_directory(temporary);
  write_content(temporary, info, layout, buffers, tokenizer);
  publish(temporary, target);
  prune(checkpoints, retention);
  return target;
}

void write_weights(const fs::path& directory, const CheckpointInfo& info, const parallel::ArenaLayout& layout,
                   const at::Tensor& parameters, const dataio::Tokenizer& tokenizer) {
  const fs::path target = fs::absolute(directory).lexically_normal();
  if (fs::exists(target)) throw InputError(fmt::format("{}: is there already", directory.string()));
  const fs::path temporary = target.string() + std::string(kTemporarySuffix);
  fs::remove_all(temporary);
  fs::create_directories(temporary);
  write_content(temporary, info, layout, {.parameters = parameters, .first_moment = {}, .second_moment = {}},
                tokenizer);
  fs::rename(temporary, target);
  sync_path(target.parent_path());
}

bool is_moment(std::string_view tensor) {
  return tensor.starts_with(kFirstMoment) || tensor.starts_with(kSecondMoment);
}

std::unique_ptr<dataio::Tokenizer> load_tokenizer(const CheckpointInfo& info) {
  return dataio::make_tokenizer(info.tokenizer, info.directory);
}

at::ScalarType weights_type(const CheckpointInfo& info) {
  return exact_type(SafetensorsFile(info.directory / kWeightsFile));
}

std::optional<CheckpointInfo> find_checkpoint(const fs::path& path, std::vector<std::string>& warnings) {
  if (fs::exists(path / "manifest.json")) {
    std::vector<std::string> faults = verify_checkpoint(path);
    if (!faults.empty()) throw InputError(std::move(faults));
    return read_manifest(path).info;
  }
  if (!fs::exists(path / "resolved.ini") && !fs::is_directory(path / "checkpoints")) {
    throw InputError(fmt::format("{}: neither a checkpoint (no manifest.json) nor a run (no resolved.ini)",
                                 path.string()));
  }
  for (const auto& [step, directory] : list_checkpoints(path / "checkpoints")) {
    const std::vector<std::string> faults = verify_checkpoint(directory);
    if (faults.empty()) return read_manifest(directory).info;
    warnings.push_back(
        fmt::format("checkpoint {} passed over: {}{}", directory.string(), faults.front(),
                    faults.size() > 1 ? fmt::format(" (and {} more)", faults.size() - 1) : ""));
  }
  return std::nullopt;
}

void load_checkpoint(const CheckpointInfo& info, const parallel::ArenaLayout& layout,
                     const StateBuffers& into) {
  std::vector<std::string> faults;
  load_flat(SafetensorsFile(info.directory / kWeightsFile), "", layout, into.parameters, faults);
  if (into.first_moment.defined() || into.second_moment.defined()) {
    const fs::path old = info.directory / kOptimizerFile;
    const SafetensorsFile moments(fs::exists(old) ? old : info.directory / kWeightsFile);
    load_flat(moments, kFirstMoment, layout, into.first_moment, faults);
    load_flat(moments, kSecondMoment, layout, into.second_moment, faults);
  }
  for (auto& fault : faults) fault = fmt::format("{}: {}", info.directory.string(), fault);
  if (!faults.empty()) throw InputError(std::move(faults));
}

std::vector<std::string> verify_checkpoint(const fs::path& directory) {
  std::vector<std::string> faults;
  std::optional<Manifest> manifest;
  collect(faults, [&] { manifest = read_manifest(directory); });
  if (!manifest) return faults;
  for (const auto& [name, expected] : manifest->tensors) {
    collect(faults, [&] { compare_tensors(directory / name, expected, faults); });
  }
  for (const auto& [name, digest] : manifest->files) {
    collect(faults, [&] { compare_file(directory / name, digest, faults); });
  }
  return faults;
}

}  // namespace sluice::train
