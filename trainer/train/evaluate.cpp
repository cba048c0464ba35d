#include "trainer/train/evaluate.h"

#include <ATen/core/Tensor.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>
#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <string>
#include <vector>

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

std::vector<EvaluationBatch> cut_split(std::int64_t split_tokens, const EvaluationPlan& plan) {
  const std::int64_t predicted = split_tokens - 1;
  const std::int64_t windows = predicted / plan.seq_len;
  std::vector<EvaluationBatch> batches;
  for (std::int64_t first = 0; first < windows; first += plan.micro_batch) {
    batches.push_back({first * plan.seq_len, std::min(plan.micro_batch, windows - first), plan.seq_len});
  }
  const std::int64_t tail = predicted - windows * plan.seq_len;
  if (tail > 0) batches.push_back({windows * plan.seq_len, 1, tail});
  const auto total = static_cast<std::int64_t>(batches.size());
  if (plan.batches <= 0 || plan.batches >= total) return batches;
  std::vector<EvaluationBatch> chosen;
  for (std::int64_t i = 0; i < plan.batches; ++i) {
    chosen.push_back(batches[static_cast<std::size_t>(i * total / plan.batches)]);
  }
  return chosen;
}

double batch_loss(const model::LanguageModel& model, dataio::SplitReader& reader,
                  const EvaluationBatch& batch, at::Device device) {
  std::vector<std::int32_t> ids(static_cast<std::size_t>(batch.tokens() + 1));
  reader.read(batch.begin, ids);
  at::Tensor tokens_BT = at::empty({batch.rows, batch.length}, at::kLong);
  at::Tensor targets_BT = at::empty({batch.rows, batch.length}, at::kLong);
  std::copy(ids.begin(), ids.end() - 1, tokens_BT.mutable_data_ptr<std::int64_t>());
  std::copy(ids.begin() + 1, ids.end(), targets_BT.mutable_data_ptr<std::int64_t>());
  return model.loss_sum(tokens_BT.to(device), targets_BT.to(device)).item().toDouble();
}

/// This rank's sums, one for each of its batches, as bytes.
std::string own_sums(const model::LanguageModel& model, dataio::SplitReader& reader,
                     const std::vector<EvaluationBatch>& batches, at::Device device,
                     const parallel::Communicator& communicator) {
  std::string bytes;
  const auto stride = static_cast<std::size_t>(communicator.size());
  for (auto i = static_cast<std::size_t>(communicator.rank()); i < batches.size(); i += stride) {
    const double sum = batch_loss(model, reader, batches[i], device);
    bytes.append(reinterpret_cast<const char*>(&sum), sizeof sum);
  }
  return bytes;
}

}  // namespace

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
      communicator.all_gather(own_sums(model, reader, batches, plan.device, communicator));
  EvaluationResult result;
  for (std::size_t i = 0; i < batches.size(); ++i) {
    const std::string& owner = gathered[i % gathered.size()];
    double sum = 0;
    std::memcpy(&sum, owner.data() + i / gathered.size() * sizeof sum, sizeof sum);
    result.loss_sum += sum;
    result.tokens += batches[i].tokens();
  }
  result.batches = static_cast<std::int64_t>(batches.size());
  result.loss = result.loss_sum / static_cast<double>(result.tokens);
  return result;
}

}  // namespace sluice::train
