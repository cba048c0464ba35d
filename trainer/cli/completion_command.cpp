#include <fmt/format.h>

#include <cstdio>

#include "trainer/cli/arguments.h"
#include "trainer/cli/command.h"
#include "trainer/cli/completion.h"
#include "trainer/train/errors.h"

namespace sluice::cli {
namespace {

int run_completion(const std::vector<std::string>& words, parallel::Communicator&) {
  const Arguments arguments({}, words, "SHELL");
  const std::string& shell = arguments.positional().front();
  if (shell != "bash")
    throw train::InputError(fmt::format("sluice completion {}: the shell may be bash", shell));
  std::fputs(bash_completion().c_str(), stdout);
  return kDone;
}

}  // namespace

Command completion_command() {
  return {.name = "completion",
          .summary = "print a script by which bash completes sluice's commands and settings",
          .help =
              "  source <(sluice completion bash)\n\nAn installed tree has it in "
              "share/bash-completion/completions/sluice.\n",
          .run = run_completion};
}

}  // namespace sluice::cli
