#pragma once

#include <cuda_runtime_api.h>

#include <vector>

// Included by device_stream_cuda.cpp alone. Errors are std::runtime_error with CUDA's own words.
namespace sluice::parallel {

/// The graph's nodes of one type.
[[nodiscard]] std::vector<cudaGraphNode_t> nodes_of(cudaGraph_t graph, cudaGraphNodeType type);

/// Fills of a few bytes in a captured graph (counters that libraries' kernels find at zero) become kernels: a
/// graph goes from kernel to kernel in a microsecond, to a memset and back in five. Before it is
/// instantiated. Throws std::runtime_error.
void fill_by_kernels(cudaGraph_t graph);

/// What comes after the node comes after what was before it instead: a record of an event, which takes ten
/// microseconds and more on the way from kernel to kernel, then stands beside it. Otherwise as above.
void unchain(cudaGraph_t graph, cudaGraphNode_t node);

}  // namespace sluice::parallel
