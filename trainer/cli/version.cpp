#include "trainer/cli/version.h"

#include <ATen/Version.h>
#include <fmt/format.h>

#include "dataio/h5.h"
#include "parallel/device.h"
#include "parallel/mpi_environment.h"
#include "trainer/cli/syntax.h"

namespace sluice::cli {
namespace {

/// LibTorch tells its version at run time within the text of its build settings.
std::string torch_version() {
  const std::string mark = "TORCH_VERSION=";
  const std::string config = at::show_config();
  const auto begin = config.find(mark);
  if (begin == std::string::npos) return "unknown";
  const auto from = begin + mark.size();
  return config.substr(from, config.find_first_of(", \n", from) - from);
}

std::string first_part(const std::string& text) { return text.substr(0, text.find_first_of(",\n")); }

std::string line(const std::string& name, const std::string& value) {
  return fmt::format("{:<10} {}\n", name, value);
}

}  // namespace

std::string version_text() {
  const auto devices = parallel::report_devices();
  const std::string none = devices.built_with_cuda ? "none found" : "not in this build";
  const auto or_none = [&](const std::string& text) { return text.empty() ? none : text; };
  std::string text = line("sluice", fmt::format("{} (commit {})", program_version(), program_commit()));
  text += line("LibTorch", torch_version() + ", CPU " + at::get_cpu_capability());
  text += line("MPI", first_part(parallel::mpi_library_version()));
  text += line("HDF5", dataio::h5::library_version());
  text += line("Boost", boost_version());
  text += line("CUDA", devices.cuda_runtime.empty()
                           ? none
                           : devices.cuda_runtime + ", driver " +
                                 (devices.cuda_driver.empty() ? "none" : devices.cuda_driver));
  text += line("NCCL", or_none(devices.nccl));
  for (const auto& gpu : devices.gpus) text += line("GPU", gpu);
  return text;
}

}  // namespace sluice::cli
