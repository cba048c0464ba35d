#include "trainer/train/evaluate.h"

#include <ATen/core/Tensor.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/index_select.h>
#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "trainer/kernels/sharded_attention.h"
#include "trainer/train/errors.h"

namespace sluice::train {

namespace {

/// Consecutive windows of one length.
struct EvaluationBatch {
  std::int64_t begin = 0;  ///< first token
  std::int64_t rows = 0;
  std::int64_t length = 0;  ///< positions of a window

  [[nodiscard]] std::int64_t tokens() const { return rows * length; }
};

/// Targets that are the inputs shifted need one token more.
std::int64_t shift_of(const EvaluationPlan& plan) { return plan.masking ? 0 : 1; }

std::vector<EvaluationBatch> cut_split(std::int64_t split_tokens, const EvaluationPlan& plan) {
  const std::int64_t inputs = split_tokens - shift_of(plan);
  const std::int64_t windows = inputs / plan.seq_len;
  std::vector<EvaluationBatch> batches;
  for (std::int64_t first = 0; first < windows; first += plan.micro_batch) {
    batches.push_back({first * plan.seq_len, std::min(plan.micro_batch, windows - first), plan.seq_len});
  }
  const std::int64_t tail = inputs - windows * plan.seq_len;
  if (tail > 0) batches.push_back({windows * plan.seq_len, 1, tail});
  const auto total = static_cast<std::int64_t>(batches.size());
  if (plan.batches <= 0 || plan.batches >= total) return batches;
  std::vector<EvaluationBatch> chosen;
  for (std::int64_t i = 0; i < plan.batches; ++i) {
    chosen.push_back(batches[static_cast<std::size_t>(i * total / plan.batches)]);
  }
  return chosen;
}

/// Of one batch, in nats.
struct BatchLoss {
  double sum = 0;
  std::int64_t targets = 0;
};

/// Each row keyed by its place in the split.
void mask_rows(const Masking& masking, const EvaluationBatch& batch, std::span<const std::int32_t> ids,
               std::span<std::int64_t> tokens, std::span<std::int64_t> targets) {
  const auto length = static_cast<std::size_t>(batch.length);
  std::vector<std::int32_t> shown(length);
  std::vector<std::int32_t> hidden(length);
  for (std::size_t row = 0; row < static_cast<std::size_t>(batch.rows); ++row) {
    const std::size_t at = row * length;
    mask_window(masking, batch.begin + static_cast<std::int64_t>(at), ids.subspan(at, length), shown, hidden);
    std::ranges::copy(shown, tokens.begin() + static_cast<std::ptrdiff_t>(at));
    std::ranges::copy(hidden, targets.begin() + static_cast<std::ptrdiff_t>(at));
  }
}

/// This rank's share.
at::Tensor shared_loss(const model::LanguageModel& model, const at::Tensor& tokens_BT,
                       const at::Tensor& targets_BT, const kernels::SequenceExchange& exchange,
                       c10::Device device) {
  const at::Tensor held = kernels::held_positions(exchange, at::kCPU);
  return model.shared_loss_sum(tokens_BT.index_select(1, held).to(device),
                               targets_BT.index_select(1, held).to(device), exchange);
}

BatchLoss batch_loss(const model::LanguageModel& model, dataio::SplitReader& reader,
                     const EvaluationBatch& batch, const EvaluationPlan& plan) {
  std::vector<std::int32_t> ids(static_cast<std::size_t>(batch.tokens() + shift_of(plan)));
  reader.read(batch.begin, ids);
  at::Tensor tokens_BT = at::empty({batch.rows, batch.length}, at::kLong);
  at::Tensor targets_BT = at::empty({batch.rows, batch.length}, at::kLong);
  const auto count = static_cast<std::size_t>(batch.tokens());
  const std::span tokens(tokens_BT.mutable_data_ptr<std::int64_t>(), count);
  const std::span targets(targets_BT.mutable_data_ptr<std::int64_t>(), count);
  if (plan.masking) {
    mask_rows(*plan.masking, batch, ids, tokens, targets);
  } else {
    std::copy(ids.begin(), ids.end() - 1, tokens.begin());
    std::copy(ids.begin() + 1, ids.end(), targets.begin());
  }
  const std::unique_ptr<kernels::SequenceExchange> shared =
      plan.sequence ? plan.sequence->first(batch.length) : nullptr;
  const at::Tensor sum = shared ? shared_loss(model, tokens_BT, targets_BT, *shared, plan.device)
                                : model.loss_sum(tokens_BT.to(plan.device), targets_BT.to(plan.device));
  return {.sum = sum.item().toDouble(),
          .targets = std::ssize(targets) - std::ranges::count(targets, model::kIgnore)};
}

std::int64_t ranks_of_a_row(const EvaluationPlan& plan) { return plan.sequence ? plan.sequence->ranks() : 1; }

/// This rank's sums, one for each of its row's batches, as bytes.
std::string own_sums(const model::LanguageModel& model, dataio::SplitReader& reader,
                     const std::vector<EvaluationBatch>& batches, const EvaluationPlan& plan,
                     const parallel::Communicator& communicator) {
  std::string bytes;
  const auto stride = static_cast<std::size_t>(communicator.size() / ranks_of_a_row(plan));
  for (auto i = static_cast<std::size_t>(communicator.rank() / ranks_of_a_row(plan)); i < batches.size();
       i += stride) {
    const BatchLoss loss = batch_loss(model, reader, batches[i], plan);
    bytes.append(reinterpret_cast<const char*>(&loss), sizeof loss);
  }
  return bytes;
}

/// Batch `i`, of which each rank of a row has a share of the sum, and all targets.
BatchLoss loss_of_batch(const std::vector<std::string>& gathered, std::size_t i, std::size_t ranks) {
  const std::size_t rows = gathered.size() / ranks;
  BatchLoss all;
  for (std::size_t rank = 0; rank < ranks; ++rank) {
    BatchLoss share;
    std::memcpy(&share, gathered[i % rows * ranks + rank].data() + i / rows * sizeof share, sizeof share);
    all.sum += share.sum;
    all.targets = share.targets;
  }
  return all;
}

}  // namespace

Validation validation_of(std::vector<CorpusValidation> corpora) {
  Validation all;
  for (const CorpusValidation& one : corpora) {
    all.loss += one.share * one.result.loss;
    all.tokens += one.result.tokens;
  }
  all.corpora = std::move(corpora);
  return all;
}

EvaluationResult evaluate(const model::LanguageModel& model, dataio::SplitReader& reader,
                          const EvaluationPlan& plan, parallel::Communicator& communicator) {
  const dataio::SplitLayout& split = reader.split();
  if (split.tokens < 2) {
    throw InputError(
        fmt::format("split {} has {} tokens: evaluation needs at least 2", split.name, split.tokens));
  }
  const at::NoGradGuard no_grad;
  const std::vector<EvaluationBatch> batches = cut_split(split.tokens, plan);
  const std::vector<std::string> gathered =
      communicator.all_gather(own_sums(model, reader, batches, plan, communicator));
  EvaluationResult result;
  for (std::size_t i = 0; i < batches.size(); ++i) {
    const BatchLoss loss = loss_of_batch(gathered, i, static_cast<std::size_t>(ranks_of_a_row(plan)));
    result.loss_sum += loss.sum;
    result.tokens += loss.targets;
  }
  if (result.tokens == 0) {
    throw InputError(fmt::format("split {} has nothing to predict: special tokens alone", split.name));
  }
  result.batches = static_cast<std::int64_t>(batches.size());
  result.loss = result.loss_sum / static_cast<double>(result.tokens);
  return result;
}

}  // namespace sluice::train
