#include <cstdio>

#include "trainer/cli/arguments.h"
#include "trainer/cli/command.h"

namespace sluice::cli {
namespace {

int run_reference(const std::vector<std::string>& words, parallel::Communicator&) {
  const Arguments arguments({}, words);
  std::fputs(reference_markdown().c_str(), stdout);
  return kDone;
}

}  // namespace

Command reference_command() {
  return {"reference", "print docs/reference.md", "  sluice reference > docs/reference.md\n", run_reference};
}

}  // namespace sluice::cli
