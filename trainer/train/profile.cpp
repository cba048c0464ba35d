#include "trainer/train/profile.h"

#include <c10/core/impl/VirtualGuardImpl.h>
#include <fmt/format.h>
#include <torch/csrc/autograd/profiler_kineto.h>

#include <fstream>
#include <set>
#include <string_view>
#include <utility>

#include "trainer/train/errors.h"

namespace sluice::train {
namespace {

namespace profiler = torch::autograd::profiler;

profiler::ProfilerConfig configuration() {
  return profiler::ProfilerConfig(profiler::ProfilerState::KINETO, /*report_input_shapes=*/true);
}

std::set<profiler::ActivityType> activities(const c10::Device& device) {
  std::set<profiler::ActivityType> all = {profiler::ActivityType::CPU};
  if (!device.is_cpu()) all.insert(profiler::ActivityType::CUDA);
  return all;
}

}  // namespace

std::optional<std::filesystem::path> profile_file(const std::string& name, std::int64_t rank) {
  constexpr std::string_view kRank = "{rank}";
  const auto found = name.find(kRank);
  if (name.empty() || (found == std::string::npos && rank != 0)) return std::nullopt;
  if (found == std::string::npos) return name;
  return std::string(name).replace(found, kRank.size(), std::to_string(rank));
}

Profile::Profile(ProfilePlan plan, const c10::Device& device) : plan_(std::move(plan)), device_(device) {
  if (!std::ofstream(plan_.file, std::ios::app))
    throw InputError(fmt::format("--profile {}: the file cannot be written", plan_.file.string()));
}

Profile::~Profile() {
  if (state_ == State::kRecording) (void)profiler::disableProfiler();
}

void Profile::before_step() {
  const std::int64_t step = begun_++;
  // The device's tracing starts one step ahead: its first launches are slow.
  if (state_ == State::kWaiting && step + 1 >= plan_.skip) {
    profiler::prepareProfiler(configuration(), activities(device_));
    state_ = State::kPrepared;
  }
  if (state_ == State::kPrepared && step >= plan_.skip) {
    if (!device_.is_cpu()) c10::impl::VirtualGuardImpl(device_.type()).synchronizeDevice(device_.index());
    profiler::enableProfiler(configuration(), activities(device_));
    state_ = State::kRecording;
  }
  if (state_ == State::kRecording && step >= plan_.skip + plan_.steps) end_recording();
}

void Profile::finish() {
  if (state_ == State::kRecording) end_recording();
}

void Profile::end_recording() {
  // What still runs would be missing.
  if (!device_.is_cpu()) c10::impl::VirtualGuardImpl(device_.type()).synchronizeDevice(device_.index());
  profiler::disableProfiler()->save(plan_.file.string());
  state_ = State::kWritten;
}

}  // namespace sluice::train
