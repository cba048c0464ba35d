#include "trainer/train/product_choice.h"

#include <ATen/ops/arange.h>
#include <fmt/format.h>

#include <chrono>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <utility>
#include <vector>

#include "parallel/agree.h"
#include "parallel/device.h"
#include "parallel/device_stream.h"
#include "trainer/kernels/device_products.h"
#include "trainer/kernels/product_table.h"
#include "trainer/kernels/sharded_attention.h"
#include "trainer/train/errors.h"

namespace sluice::train {
namespace {

/// Products of a micro-batch's forward and backward. Tokens differ, so that no pass has all rows on one.
/// Collective over those with whom the replica shares its sequences.
std::vector<kernels::ProductProblem> products_of_step(const RunOptions& options, Replica& replica) {
  const at::Device device = replica.parameters().device();
  const at::Tensor tokens = at::arange(options.train.micro_batch * options.model.seq_len,
                                       at::TensorOptions(at::kLong).device(device))
                                .remainder(replica.vocabulary_size())
                                .view({options.train.micro_batch, options.model.seq_len});
  const kernels::SequenceExchange* const sequence = replica.sequence();
  const auto loss = [&] {
    if (sequence == nullptr) return replica.model().loss_sum(tokens, tokens);
    const at::Tensor held = tokens.index_select(1, kernels::held_positions(*sequence, device));
    return replica.model().training_loss_sum(held, held, at::arange(held.size(0), held.options()));
  };
  std::vector<kernels::ProductProblem> problems;
  {
    const kernels::ProductRecording recording;
    loss().backward();
    problems = kernels::ProductRecording::problems();
  }
  replica.gradients().zero_();
  return problems;
}

/// The kept table if it holds here, else one without entries.
kernels::ProductTable table_to_fill(const std::string& kept, const c10::Device& device) {
  const kernels::ProductTable none{
      .device = parallel::device_name(device), .library = kernels::product_library(), .algorithms = {}};
  if (kept.empty()) return none;
  try {
    kernels::ProductTable table = kernels::read_table(kept);
    return table.device == none.device && table.library == none.library ? table : none;
  } catch (const std::invalid_argument& error) {
    throw InputError(fmt::format("the checkpoint's {}", error.what()));
  }
}

ProductChoice choose_on_rank_zero(std::vector<kernels::ProductProblem> missing, const at::Device& device,
                                  const std::string& kept) {
  const auto begin = std::chrono::steady_clock::now();
  kernels::ProductTable table = table_to_fill(kept, device);
  std::erase_if(missing, [&](const auto& one) { return table.algorithms.contains(kernels::text_of(one)); });
  const auto tuned = kernels::tune_products(missing, device);
  for (const auto& one : tuned) table.algorithms[kernels::text_of(one.problem)] = one.algorithm;
  parallel::release_cached_memory();
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begin;
  return {.table = table.algorithms.empty() ? "" : kernels::table_text(table),
          .tuned = static_cast<std::int64_t>(tuned.size()),
          .seconds = took.count()};
}

}  // namespace

ProductChoice choose_products(const RunOptions& options, Replica& replica, const std::string& kept,
                              parallel::Communicator& world) {
  kernels::install_products({});
  if (replica.parameters().is_cpu() || options.train.tune == "off") return {};
  nlohmann::json own;
  parallel::on_all_ranks(world, [&] {
    if (world.rank() != 0 && replica.sequence() == nullptr) return;
    std::vector<kernels::ProductProblem> problems = products_of_step(options, replica);
    if (world.rank() != 0) return;
    const ProductChoice choice =
        choose_on_rank_zero(std::move(problems), replica.parameters().device(), kept);
    own = {choice.table, choice.tuned, choice.seconds};
  });
  const auto shared = nlohmann::json::parse(world.broadcast(own.dump(), 0));
  ProductChoice choice{.table = shared.at(0).get<std::string>(),
                       .tuned = shared.at(1).get<std::int64_t>(),
                       .seconds = shared.at(2).get<double>()};
  if (!choice.table.empty()) kernels::install_products(kernels::read_table(choice.table));
  return choice;
}

std::string product_summary(const std::string& table) {
  if (table.empty()) return "untuned";
  const kernels::ProductTable read = kernels::read_table(table);
  return fmt::format("{} tuned on {} with cuBLASLt {}", read.algorithms.size(), read.device, read.library);
}

}  // namespace sluice::train
