#include "trainer/train/generate.h"

#include <ATen/ops/tensor.h>
#include <fmt/format.h>

#include <algorithm>
#include <stdexcept>
#include <utility>

namespace sluice::train {
namespace {

std::vector<double> to_doubles(const at::Tensor& logits_V) {
  const at::Tensor values = logits_V.to(at::kDouble).contiguous();
  const auto* data = values.const_data_ptr<double>();
  return {data, data + values.numel()};
}

}  // namespace

std::int64_t default_slide(std::int64_t seq_len) { return std::max<std::int64_t>(1, seq_len / 4); }

DecodingWindow::DecodingWindow(const model::LanguageModel& model, const WindowOptions& options,
                               std::vector<std::int64_t> prompt)
    : model_(model), options_(options), tokens_(std::move(prompt)), cache_(model.make_cache()) {
  if (tokens_.empty()) throw std::invalid_argument("a prompt of no tokens");
  if (options_.slide < 1 || options_.slide > options_.seq_len) {
    throw std::invalid_argument(fmt::format("slide {}: allowed are 1 ... {} (the model's positions)",
                                            options_.slide, options_.seq_len));
  }
  encode(options_.seq_len);
}

void DecodingWindow::encode(std::int64_t last_tokens) {
  const auto count = std::min(last_tokens, static_cast<std::int64_t>(tokens_.size()));
  const auto seen =
      at::ArrayRef<std::int64_t>(tokens_).slice(tokens_.size() - static_cast<std::size_t>(count));
  const at::Tensor tokens_T = at::tensor(seen, at::TensorOptions().dtype(at::kLong));
  logits_ = to_doubles(model_.prefill(tokens_T, *cache_));
}

void DecodingWindow::append(std::int64_t token) {
  tokens_.push_back(token);
  if (cache_->length() < options_.seq_len) {
    logits_ = to_doubles(model_.decode(token, *cache_));
  } else {
    encode(options_.seq_len - options_.slide + 1);
  }
}

std::vector<std::int64_t> DecodingWindow::window() const {
  return {tokens_.end() - cache_->length(), tokens_.end()};
}

void generate(const model::LanguageModel& model, const WindowOptions& window, const SamplingOptions& sampling,
              std::vector<std::int64_t> prompt, std::int64_t count,
              const std::function<void(std::int64_t token)>& on_token) {
  if (count <= 0) return;
  DecodingWindow text(model, window, std::move(prompt));
  for (std::int64_t draw = 0; draw < count; ++draw) {
    const std::int64_t token = choose_token(text.logits(), sampling, draw);
    on_token(token);
    if (draw + 1 < count) text.append(token);
  }
}

}  // namespace sluice::train
