#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>

#include "trainer/kernels/cuda_launch.h"

// Launchers of head_gradients.cu; as in cuda_launch.h.
namespace sluice::kernels::launch {

/// Rows of sorted tokens that one block adds up.
inline constexpr std::int64_t kSortedRows = 32;

struct SortTokens {
  const std::int64_t* tokens;
  std::int32_t* pairs;  ///< [4, rows]: tokens and their rows, unsorted and sorted
  void* workspace;      ///< of embedding_workspace() bytes
  std::size_t workspace_bytes;
  std::int64_t rows;
  std::int64_t vocabulary;
};
[[nodiscard]] std::int64_t embedding_workspace(std::int64_t rows, std::int64_t vocabulary);
void sort_tokens(const SortTokens& arguments, cudaStream_t stream);

struct EmbeddingGradient {
  const std::int32_t* sorted;  ///< [2, rows]: tokens and their rows
  const void* gradient;
  float* sum;
  float* partials;  ///< [pieces of kSortedRows, 2, width]
  std::int64_t rows;
  std::int64_t width;
};
void add_embedding_gradient(const EmbeddingGradient& arguments, Precision precision, cudaStream_t stream);

/// sum (float32) or rounded (bfloat16), the other one null.
struct Scaled {
  float* sum;
  void* rounded;
  bool writes_over;  ///< sum holds nothing yet
  const float* values;
  const float* scale;
  std::int64_t elements;
};
void scaled(const Scaled& arguments, cudaStream_t stream);

}  // namespace sluice::kernels::launch
