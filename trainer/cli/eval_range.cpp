#include "trainer/cli/eval_range.h"

#include <ATen/core/Tensor.h>
#include <fmt/format.h>

#include <filesystem>
#include <system_error>

#include "trainer/train/errors.h"
#include "trainer/train/probe.h"
#include "trainer/train/safetensors.h"

namespace sluice::cli {
namespace {

void write(const std::string& flag, const std::string& file, std::vector<train::NamedTensor> tensors,
           const train::ProbeBatch& batch, const train::Probe& probe) {
  tensors.push_back({"tokens", batch.tokens_RT});
  tensors.push_back({"targets", batch.targets_RT});
  tensors.push_back({"loss", probe.loss});
  try {
    train::write_safetensors(file, tensors);
  } catch (const std::system_error& error) {
    throw train::InputError(fmt::format("{} {}: {}", flag, file, error.what()));
  }
}

}  // namespace

std::vector<Flag> range_flags() {
  return {
      {.name = "--tokens",
       .value_name = "A:B",
       .help = "instead of the whole split its tokens A to B - 1, at most n or a multiple of n: one batch"},
      {.name = "--logits",
       .value_name = "FILE",
       .help = "with --tokens: write the batch's logits, safetensors"},
      {.name = "--gradients",
       .value_name = "FILE",
       .help = "with --tokens: write the gradients of the batch's mean loss, by parameter, safetensors"}};
}

bool asks_for_range(const Arguments& arguments, const parallel::Communicator& world) {
  std::vector<std::string> faults;
  const bool range = arguments.has("--tokens");
  for (const char* flag : {"--logits", "--gradients"}) {
    if (arguments.has(flag) && !range)
      faults.push_back(fmt::format("{}: is of one given batch, give its --tokens A:B", flag));
  }
  if (range && !arguments.has("--logits") && !arguments.has("--gradients"))
    faults.emplace_back("--tokens: gives the batch of --logits or --gradients, give one of them");
  if (range && arguments.has("--by-position"))
    faults.emplace_back("--by-position: is of a whole split, --tokens gives one batch; give one of them");
  if (range && world.size() > 1)
    faults.push_back(fmt::format(
        "--tokens: one batch is for one process, and there are {}: leave mpirun away", world.size()));
  if (!faults.empty()) throw train::InputError(std::move(faults));
  return range;
}

RangeResult evaluate_range(const Arguments& arguments, const train::Replica& replica,
                           dataio::SplitReader& reader, const std::optional<train::Masking>& masking) {
  const auto [begin, end] = arguments.range("--tokens");
  const train::ProbeBatch batch = train::read_probe_batch(
      reader, begin, end, replica.options().seq_len,
      replica.options().causal ? train::Objective::kCausal : train::Objective::kMasked, masking);
  const train::Probe probe = train::probe(replica, batch);
  if (arguments.has("--logits"))
    write("--logits", arguments.text("--logits"), {{"logits", probe.logits_RTV}}, batch, probe);
  if (arguments.has("--gradients"))
    write("--gradients", arguments.text("--gradients"), probe.gradients, batch, probe);
  return {.predicted = batch.predicted, .loss = probe.loss.to(at::kDouble).item<double>()};
}

}  // namespace sluice::cli
