#include "trainer/train/probe.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>
#include <fmt/format.h>

#include <algorithm>
#include <span>

#include "trainer/train/errors.h"

namespace sluice::train {
namespace {

using Ids = std::span<const std::int32_t>;

void check_range(const dataio::SplitLayout& split, std::int64_t begin, std::int64_t end,
                 std::int64_t seq_len) {
  const std::int64_t count = end - begin;
  if (count < 1 || end > split.tokens) {
    throw InputError(fmt::format("tokens {}:{}: at least one, of the {} tokens of split {}", begin, end,
                                 split.tokens, split.name));
  }
  if (count > seq_len && count % seq_len != 0) {
    throw InputError(
        fmt::format("tokens {}:{}: are {}, must be at most n = {} (one row), or a multiple of it (rows of n)",
                    begin, end, count, seq_len));
  }
}

at::Tensor rows_of(Ids ids, std::int64_t rows) {
  at::Tensor out = at::empty({rows, static_cast<std::int64_t>(ids.size()) / rows}, at::kLong);
  std::ranges::copy(ids, out.mutable_data_ptr<std::int64_t>());
  return out;
}

}  // namespace

ProbeBatch read_probe_batch(dataio::SplitReader& reader, std::int64_t begin, std::int64_t end,
                            std::int64_t seq_len, Objective objective,
                            const std::optional<Masking>& masking) {
  check_range(reader.split(), begin, end, seq_len);
  const std::int64_t rows = std::max<std::int64_t>((end - begin) / seq_len, 1);
  const auto count = static_cast<std::size_t>(end - begin);
  // Targets that are the inputs shifted need one token more, where there is one.
  const bool next = objective == Objective::kCausal && end < reader.split().tokens;
  std::vector<std::int32_t> ids(count + (next ? 1 : 0));
  reader.read(begin, ids);
  std::vector<std::int32_t> inputs(ids.begin(), ids.begin() + static_cast<std::ptrdiff_t>(count));
  std::vector<std::int32_t> targets(count, static_cast<std::int32_t>(model::kIgnore));
  if (masking) {
    const auto length = count / static_cast<std::size_t>(rows);
    for (std::size_t at = 0; at < count; at += length) {
      mask_window(*masking, begin + static_cast<std::int64_t>(at), Ids(ids).subspan(at, length),
                  std::span(inputs).subspan(at, length), std::span(targets).subspan(at, length));
    }
  } else {
    std::copy(ids.begin() + (objective == Objective::kCausal ? 1 : 0), ids.end(), targets.begin());
  }
  ProbeBatch batch{.tokens_RT = rows_of(inputs, rows),
                   .targets_RT = rows_of(targets, rows),
                   .predicted = std::ssize(targets) - std::ranges::count(targets, model::kIgnore)};
  if (batch.predicted == 0)
    throw InputError(fmt::format("tokens {}:{}: none of them is predicted", begin, end));
  return batch;
}

Probe probe(const Replica& replica, const ProbeBatch& batch) {
  const at::Tensor& parameters = replica.parameters();
  const at::Tensor tokens = batch.tokens_RT.to(parameters.device());
  const at::Tensor targets = batch.targets_RT.to(parameters.device());
  const auto kept = [&](const at::Tensor& value) {
    return value.detach().to(at::TensorOptions(at::kCPU).dtype(parameters.scalar_type())).contiguous();
  };
  Probe result;
  {
    const at::NoGradGuard no_grad;
    result.logits_RTV = kept(replica.model().logits(tokens));
  }
  const bool differentiates = replica.gradients().defined();
  const at::AutoGradMode mode(differentiates);
  const at::Tensor loss = replica.model().loss_sum(tokens, targets).div(static_cast<double>(batch.predicted));
  result.loss = kept(loss).view({1});
  if (!differentiates) return result;
  loss.backward();
  std::int64_t index = 0;
  for (const auto& entry : replica.layout().entries())
    result.gradients.push_back({entry.name, kept(replica.layout().view(replica.gradients(), index++))});
  return result;
}

}  // namespace sluice::train
