#include <ATen/ops/empty.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <c10/util/Exception.h>

#include <limits>

#include "trainer/kernels/cuda_head_launch.h"
#include "trainer/kernels/head_gradients.h"

namespace sluice::kernels {
namespace {

cudaStream_t stream_of(const at::Tensor& tensor) {
  return c10::cuda::getCurrentCUDAStream(tensor.device().index()).stream();
}

/// A vector of four elements at a time.
bool by_fours(const at::Tensor& tensor) {
  const std::int64_t bytes = 4 * static_cast<std::int64_t>(tensor.element_size());
  return tensor.is_cuda() && tensor.is_contiguous() && tensor.numel() % 4 == 0 &&
         static_cast<std::int64_t>(reinterpret_cast<std::uintptr_t>(tensor.const_data_ptr())) % bytes == 0;
}

void check_scaled(const at::Tensor& values, const at::Tensor& scale) {
  TORCH_CHECK(by_fours(values) && values.scalar_type() == at::kFloat,
              "values to scale: contiguous float32 on a GPU, by fours, are needed, given is ", values.sizes(),
              " of ", values.scalar_type(), " on ", values.device());
  TORCH_CHECK(scale.numel() == 1 && scale.scalar_type() == at::kFloat && scale.device() == values.device(),
              "scale: a float32 scalar on ", values.device(), " is needed, given is ", scale.sizes(), " of ",
              scale.scalar_type(), " on ", scale.device());
}

}  // namespace

bool has_embedding_gradient(const at::Tensor& sum_Vd, const at::Tensor& gradient_Td) {
  const at::ScalarType type = gradient_Td.scalar_type();
  return by_fours(sum_Vd) && sum_Vd.scalar_type() == at::kFloat && sum_Vd.size(-1) % 4 == 0 &&
         by_fours(gradient_Td) && (type == at::kFloat || type == at::kBFloat16);
}

SortedTokens::SortedTokens(const at::Tensor& tokens, std::int64_t of_vocabulary)
    : tokens_T(tokens), vocabulary(of_vocabulary) {
  const std::int64_t rows = tokens.numel();
  TORCH_CHECK(tokens.scalar_type() == at::kLong && tokens.dim() == 1 && tokens.is_contiguous() &&
                  tokens.is_cuda() && rows <= std::numeric_limits<std::int32_t>::max(),
              "SortedTokens: tokens ", tokens.sizes(), " of ", tokens.scalar_type(), " on ", tokens.device());
  pairs = at::empty({4, rows}, tokens.options().dtype(at::kInt));
  workspace = at::empty({launch::embedding_workspace(rows, vocabulary)}, tokens.options().dtype(at::kByte));
}

void SortedTokens::sort() const {
  const c10::cuda::CUDAGuard guard(tokens_T.device());
  launch::sort_tokens({.tokens = tokens_T.const_data_ptr<std::int64_t>(),
                       .pairs = pairs.mutable_data_ptr<std::int32_t>(),
                       .workspace = workspace.mutable_data_ptr(),
                       .workspace_bytes = workspace.nbytes(),
                       .rows = tokens_T.numel(),
                       .vocabulary = vocabulary},
                      stream_of(tokens_T));
}

void add_embedding_gradient(const at::Tensor& sum_Vd, const SortedTokens& sorted,
                            const at::Tensor& gradient_Td) {
  const std::int64_t rows = sorted.tokens_T.numel();
  const std::int64_t width = sum_Vd.size(-1);
  TORCH_CHECK(has_embedding_gradient(sum_Vd, gradient_Td) && sum_Vd.dim() == 2 && gradient_Td.dim() == 2 &&
                  sum_Vd.size(0) == sorted.vocabulary && gradient_Td.size(0) == rows &&
                  gradient_Td.size(1) == width && sum_Vd.device() == gradient_Td.device() &&
                  sum_Vd.device() == sorted.pairs.device(),
              "add_embedding_gradient: sum ", sum_Vd.sizes(), " of ", sum_Vd.scalar_type(), ", gradient ",
              gradient_Td.sizes(), " of ", gradient_Td.scalar_type(), " on ", gradient_Td.device(), ", ",
              rows, " tokens of ", sorted.vocabulary, " on ", sorted.pairs.device());
  const c10::cuda::CUDAGuard guard(sum_Vd.device());
  const std::int64_t pieces = (rows + launch::kSortedRows - 1) / launch::kSortedRows;
  const at::Tensor partials = at::empty({pieces, 2, width}, sum_Vd.options());
  launch::add_embedding_gradient(
      {.sorted = sorted.pairs.const_data_ptr<std::int32_t>() + 2 * rows,
       .gradient = gradient_Td.const_data_ptr(),
       .sum = sum_Vd.mutable_data_ptr<float>(),
       .partials = partials.mutable_data_ptr<float>(),
       .rows = rows,
       .width = width},
      gradient_Td.scalar_type() == at::kFloat ? launch::Precision::kFloat : launch::Precision::kBf16,
      stream_of(sum_Vd));
}

void add_scaled(const GradientSum& into, const at::Tensor& values, const at::Tensor& scale) {
  const at::Tensor& sum = into.sum;
  check_scaled(values, scale);
  check_scaled(sum, scale);
  TORCH_CHECK(sum.sizes() == values.sizes(), "add_scaled: ", values.sizes(), " to ", sum.sizes());
  const c10::cuda::CUDAGuard guard(values.device());
  launch::scaled({.sum = sum.mutable_data_ptr<float>(),
                  .rounded = nullptr,
                  .writes_over = into.before == Before::kNothing,
                  .values = values.const_data_ptr<float>(),
                  .scale = scale.const_data_ptr<float>(),
                  .elements = values.numel()},
                 stream_of(values));
}

at::Tensor scaled_bf16(const at::Tensor& values, const at::Tensor& scale) {
  check_scaled(values, scale);
  const c10::cuda::CUDAGuard guard(values.device());
  at::Tensor rounded = at::empty(values.sizes(), values.options().dtype(at::kBFloat16));
  launch::scaled({.sum = nullptr,
                  .rounded = rounded.mutable_data_ptr(),
                  .writes_over = true,
                  .values = values.const_data_ptr<float>(),
                  .scale = scale.const_data_ptr<float>(),
                  .elements = values.numel()},
                 stream_of(values));
  return rounded;
}

}  // namespace sluice::kernels
