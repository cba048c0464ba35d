#include <fmt/format.h>

#include <cstdio>

#include "dataio/tokenizer.h"
#include "dataio/verify.h"
#include "trainer/cli/arguments.h"
#include "trainer/cli/command.h"
#include "trainer/cli/place.h"
#include "trainer/train/checkpoint.h"

namespace sluice::cli {
namespace {

std::vector<std::string> faults_of_run(const std::filesystem::path& run) {
  std::vector<std::string> faults;
  for (const auto& checkpoint : checkpoints_of(run)) {
    const auto more = train::verify_checkpoint(checkpoint);
    faults.insert(faults.end(), more.begin(), more.end());
  }
  return faults;
}

std::vector<std::string> faults_of_tokenizer(const std::filesystem::path& directory) {
  try {
    (void)dataio::load_tokenizer(directory);
    return {};
  } catch (const std::exception& error) {
    return {error.what()};
  }
}

std::vector<std::string> faults_of(const std::filesystem::path& path) {
  switch (place_of(path)) {
    case Place::kCorpus:
      return dataio::verify_corpus(path);
    case Place::kCheckpoint:
      return train::verify_checkpoint(path);
    case Place::kRun:
      return faults_of_run(path);
    case Place::kTokenizer:
      return faults_of_tokenizer(path);
  }
  return {};
}

int run_verify(const std::vector<std::string>& words, parallel::Communicator&) {
  const Arguments arguments({}, words, "PATH");
  const std::filesystem::path path = arguments.positional().front();
  const auto faults = faults_of(path);
  for (const auto& fault : faults) fmt::print("{}\n", fault);
  if (faults.empty()) {
    fmt::print("{}: all is well\n", path.string());
  } else {
    fmt::print("{}: {} fault{}\n", path.string(), faults.size(), faults.size() == 1 ? "" : "s");
  }
  return faults.empty() ? kDone : kFault;
}

}  // namespace

Command verify_command() {
  return {.name = "verify",
          .summary = "check every digest, bound and count of a corpus, checkpoint or run",
          .help =
              "  sluice verify PATH\n\n"
              "Lists all that is wrong, a line each, and exits 1 if anything is. Of a run every checkpoint "
              "is checked.\n",
          .run = run_verify};
}

}  // namespace sluice::cli
