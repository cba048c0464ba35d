#include "trainer/train/evaluate.h"

#include <ATen/core/Tensor.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/index_select.h>
#include <ATen/ops/zeros.h>
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

/// What this rank computes of a batch: all positions of its windows, or its share of them.
struct OwnWindows {
  at::Tensor tokens_BT;  ///< on the model's device, likewise targets_BT
  at::Tensor targets_BT;
  std::int64_t targets = 0;                             ///< that count, of all positions
  std::unique_ptr<kernels::SequenceExchange> exchange;  ///< none: it has them whole
  at::Tensor held_t;  ///< its positions, int64 on the CPU; undefined where it has all
};

OwnWindows read_windows(dataio::SplitReader& reader, const EvaluationBatch& batch,
                        const EvaluationPlan& plan) {
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
  OwnWindows own;
  own.targets = std::ssize(targets) - std::ranges::count(targets, model::kIgnore);
  if (plan.sequence) own.exchange = plan.sequence->first(batch.length);
  if (own.exchange) {
    own.held_t = kernels::held_positions(*own.exchange, at::kCPU);
    tokens_BT = tokens_BT.index_select(1, own.held_t);
    targets_BT = targets_BT.index_select(1, own.held_t);
  }
  own.tokens_BT = tokens_BT.to(plan.device);
  own.targets_BT = targets_BT.to(plan.device);
  return own;
}

/// This rank's losses by position, and how many targets they are of.
class PositionSums {
 public:
  explicit PositionSums(std::int64_t positions)
      : losses_n_(at::zeros({positions}, at::kDouble)), targets_n_(at::zeros({positions}, at::kLong)) {}

  void add(const at::Tensor& losses_Bt, const OwnWindows& windows) {
    const at::Tensor losses_t = losses_Bt.sum(0, /*keepdim=*/false, at::kDouble).to(at::kCPU);
    const at::Tensor targets_t = windows.targets_BT.ne(model::kIgnore).sum(0).to(at::kCPU);
    const at::Tensor at_t =
        windows.held_t.defined() ? windows.held_t : at::arange(losses_t.size(0), targets_n_.options());
    losses_n_.index_add_(0, at_t, losses_t);
    targets_n_.index_add_(0, at_t, targets_t);
  }
  [[nodiscard]] std::vector<PositionLoss> sum_over(parallel::Communicator& communicator) {
    communicator.all_reduce(losses_n_, parallel::ReduceOp::kSum);
    communicator.all_reduce(targets_n_, parallel::ReduceOp::kSum);
    std::vector<PositionLoss> positions(static_cast<std::size_t>(losses_n_.size(0)));
    for (std::size_t i = 0; i < positions.size(); ++i)
      positions[i] = {losses_n_.const_data_ptr<double>()[i], targets_n_.const_data_ptr<std::int64_t>()[i]};
    return positions;
  }

 private:
  at::Tensor losses_n_;
  at::Tensor targets_n_;
};

/// Of one batch, this rank's share of the sum.
BatchLoss batch_loss(const model::LanguageModel& model, const OwnWindows& own, PositionSums* positions) {
  at::Tensor sum;
  if (positions) {
    const at::Tensor losses = model.target_losses(own.tokens_BT, own.targets_BT, own.exchange.get());
    positions->add(losses, own);
    sum = losses.sum(at::kDouble);
  } else {
    sum = own.exchange ? model.shared_loss_sum(own.tokens_BT, own.targets_BT, *own.exchange)
                       : model.loss_sum(own.tokens_BT, own.targets_BT);
  }
  return {.sum = sum.item().toDouble(), .targets = own.targets};
}

std::int64_t ranks_of_a_row(const EvaluationPlan& plan) { return plan.sequence ? plan.sequence->ranks() : 1; }

/// This rank's sums, one for each of its row's batches, as bytes.
std::string own_sums(const model::LanguageModel& model, dataio::SplitReader& reader,
                     const std::vector<EvaluationBatch>& batches, const EvaluationPlan& plan,
                     const parallel::Communicator& communicator, PositionSums* positions) {
  std::string bytes;
  const auto stride = static_cast<std::size_t>(communicator.size() / ranks_of_a_row(plan));
  for (auto i = static_cast<std::size_t>(communicator.rank() / ranks_of_a_row(plan)); i < batches.size();
       i += stride) {
    const BatchLoss loss = batch_loss(model, read_windows(reader, batches[i], plan), positions);
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

EvaluationResult evaluate_into(PositionSums* positions, const model::LanguageModel& model,
                               dataio::SplitReader& reader, const EvaluationPlan& plan,
                               parallel::Communicator& communicator) {
  const dataio::SplitLayout& split = reader.split();
  if (split.tokens < 2) {
    throw InputError(
        fmt::format("split {} has {} tokens: evaluation needs at least 2", split.name, split.tokens));
  }
  const at::NoGradGuard no_grad;
  const std::vector<EvaluationBatch> batches = cut_split(split.tokens, plan);
  const std::vector<std::string> gathered =
      communicator.all_gather(own_sums(model, reader, batches, plan, communicator, positions));
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
  return evaluate_into(nullptr, model, reader, plan, communicator);
}

EvaluationResult evaluate_positions(const model::LanguageModel& model, dataio::SplitReader& reader,
                                    const EvaluationPlan& plan, parallel::Communicator& communicator) {
  PositionSums positions(plan.seq_len);
  EvaluationResult result = evaluate_into(&positions, model, reader, plan, communicator);
  result.positions = positions.sum_over(communicator);
  return result;
}

}  // namespace sluice::train
