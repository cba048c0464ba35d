#include "trainer/cli/sbatch.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <stdexcept>
#include <system_error>

#include "trainer/cli/input_text.h"
#include "trainer/cli/spawn.h"
#include "trainer/train/errors.h"

namespace sluice::cli {

Site read_site(const std::string& file) { return parse_site(read_input(file, "--cluster " + file), file); }

std::string checked_time(const Site& site, const std::string& given) {
  auto time = given.empty() ? site.time : given;
  const auto seconds = parse_time_limit(time);
  if (!seconds) {
    throw train::InputError(
        fmt::format("--time = {}: must be a time as Slurm writes it: minutes, H:MM:SS or D-HH:MM:SS", time));
  }
  if (*seconds > *parse_time_limit(site.time)) {
    throw train::InputError(
        fmt::format("--time = {}: must be at most limits.time = {} of the site", time, site.time));
  }
  if (*seconds <= site.lead_s) {
    throw train::InputError(
        fmt::format("--time = {}: must be more than launch.lead = {} s of the site", time, site.lead_s));
  }
  return time;
}

std::string call_sbatch(const SbatchCall& call, const std::string& before,
                        const std::filesystem::path& script) {
  const auto words = call.waits ? with_dependency(call.words, before) : call.words;
  Spawned spawned;
  try {
    spawned = spawn(words);
  } catch (const std::system_error& error) {
    throw train::InputError(
        fmt::format("{}: is this a machine that submits to Slurm? The script is written; `{}` submits it",
                    error.what(), fmt::join(words, " ")));
  }
  if (spawned.code != 0) {
    throw std::runtime_error(
        fmt::format("sbatch ended with exit code {}, its reason is above; the script is {}", spawned.code,
                    script.string()));
  }
  auto job = spawned.output.substr(0, spawned.output.find_first_of(";\n"));  // "12" or "12;cluster"
  return job;
}

void print_submission(const std::string& text, const std::filesystem::path& script,
                      const std::vector<SbatchCall>& calls) {
  fmt::print("{}\n# {} would be this; then\n", text, script.string());
  for (const auto& call : calls) {
    fmt::print("#   {}\n",
               fmt::join(call.waits ? with_dependency(call.words, "THE_ONE_BEFORE") : call.words, " "));
  }
}

}  // namespace sluice::cli
