#include "trainer/cli/eval_sharing.h"

#include <fmt/format.h>

#include <algorithm>
#include <string>
#include <utility>

#include "trainer/cli/option_checks.h"
#include "trainer/train/errors.h"

namespace sluice::cli {

std::vector<Flag> sharing_flags() {
  return {{.name = "--sp",
           .value_name = "K",
           .help = "ranks that share each window, as parallel.sp of train: each holds its rows alone",
           .default_value = "1"},
          {.name = "--sp-mode",
           .value_name = "auto|alltoall|rowshard|ring",
           .help = "with --sp: how they make the product over positions, as parallel.sp_mode",
           .default_value = "auto"}};
}

train::RunOptions sharing_of(const Arguments& arguments, const model::ModelOptions& model,
                             const parallel::Communicator& world) {
  train::RunOptions options;
  options.model = model;
  options.parallel.sp = arguments.integer("--sp", 1, 65'536);
  options.parallel.sp_mode = arguments.choice("--sp-mode", {"auto", "alltoall", "rowshard", "ring"});
  std::vector<std::string> faults;
  if (world.size() % options.parallel.sp != 0)
    faults.push_back(
        fmt::format("--sp {}: must divide the ranks, which are {}", options.parallel.sp, world.size()));
  for (const CombinationFault& fault : check_combinations(options)) {
    const auto names = [&](const char* key) {
      return std::ranges::find(fault.keys, key) != fault.keys.end();
    };
    if (names("parallel.sp") || names("parallel.sp_mode")) faults.push_back(fault.text);
  }
  if (!faults.empty()) throw train::InputError(std::move(faults));
  return options;
}

}  // namespace sluice::cli
