#include "trainer/train/checkpoint_writer.h"

#include <ATen/ops/empty.h>
#include <fmt/format.h>

#include <chrono>
#include <fstream>
#include <optional>
#include <string>
#include <utility>

#include "parallel/device_stream.h"
#include "trainer/train/errors.h"
#include "trainer/train/stopwatch.h"

namespace fs = std::filesystem;

namespace sluice::train {

namespace {

/// Bytes that programs can still take without swapping, as the kernel estimates them.
std::optional<double> available_memory() {
  std::ifstream file("/proc/meminfo");
  std::string key;
  double kibibytes = 0;
  for (std::string unit; file >> key >> kibibytes; std::getline(file, unit)) {
    if (key == "MemAvailable:") return kibibytes * 1024;
  }
  return std::nullopt;
}

[[noreturn]] void refuse(double needed, const std::string& reason) {
  throw InputError(fmt::format("a checkpoint needs {:.1f} GB of host memory for a copy of the state; {}",
                               needed / 1e9, reason));
}

StateBuffers allocate(const parallel::ArenaLayout& layout, at::ScalarType dtype, c10::Device device) {
  constexpr double kBuffers = 3;
  const double needed =
      kBuffers * static_cast<double>(layout.size()) * static_cast<double>(c10::elementSize(dtype));
  const auto available = available_memory();
  if (available && needed > *available)
    refuse(needed, fmt::format("this host has {:.1f} GB left", *available / 1e9));
  const auto buffer = [&] {
    // Written to, so that the kernel gives the pages now and not in the first snapshot.
    if (device.is_cpu()) return at::empty({layout.size()}, dtype).zero_();
    return parallel::pinned_empty({layout.size()}, dtype);
  };
  try {
    return {.parameters = buffer(), .first_moment = buffer(), .second_moment = buffer()};
  } catch (const std::exception& error) {
    refuse(needed, error.what());
  }
}

std::int64_t bytes_in(const fs::path& directory) {
  std::int64_t bytes = 0;
  for (const auto& entry : fs::directory_iterator(directory))
    bytes += static_cast<std::int64_t>(entry.file_size());
  return bytes;
}

}  // namespace

CheckpointWriter::CheckpointWriter(fs::path run_directory, const parallel::ArenaLayout& layout,
                                   at::ScalarType dtype, c10::Device device,
                                   const dataio::Tokenizer& tokenizer, const CheckpointOptions& retention)
    : run_directory_(std::move(run_directory)),
      layout_(layout),
      tokenizer_(tokenizer),
      retention_(retention),
      host_(allocate(layout, dtype, device)) {}

void CheckpointWriter::snapshot(CheckpointInfo info, const Copy& copy) {
  Stopwatch watch;
  finish();
  auto wait_for_copy = copy(host_);
  const double stall_s = watch.lap();
  running_ = std::async(std::launch::async,
                        [this, info = std::move(info), stall_s, wait_for_copy = std::move(wait_for_copy)] {
                          if (wait_for_copy) wait_for_copy();
                          return write(info, stall_s);
                        });
}

void CheckpointWriter::finish() {
  if (running_.valid()) written_.push_back(running_.get());
}

std::vector<WrittenCheckpoint> CheckpointWriter::take_written() {
  if (running_.valid() && running_.wait_for(std::chrono::seconds(0)) == std::future_status::ready) finish();
  return std::exchange(written_, {});
}

WrittenCheckpoint CheckpointWriter::write(const CheckpointInfo& info, double stall_s) const {
  Stopwatch watch;
  const fs::path directory = write_checkpoint(run_directory_, info, layout_, host_, tokenizer_, retention_);
  return {.step = info.state.step,
          .directory = directory,
          .stall_s = stall_s,
          .write_s = watch.lap(),
          .bytes = bytes_in(directory)};
}

}  // namespace sluice::train
