#include <algorithm>
#include <stdexcept>
#include <string>
#include <vector>

#include "parallel/graph_nodes_cuda.h"

namespace sluice::parallel {
namespace {

constexpr std::size_t kMostBytes = 16384;  // beyond, a fill is worth its node
constexpr unsigned kThreads = 256;

void check(cudaError_t error, const char* call) {
  if (error == cudaSuccess) return;
  throw std::runtime_error(std::string(call) + ": " + cudaGetErrorName(error) + ", " +
                           cudaGetErrorString(error));
}

/// As cudaMemset does: `value`'s low bytes, elements of T.
template <typename T>
__global__ void __launch_bounds__(kThreads) fill(T* to, T value, unsigned count) {
  for (unsigned i = threadIdx.x; i < count; i += kThreads) to[i] = value;
}

/// Nodes on one side of a node, and the edges' data.
struct Neighbours {
  std::vector<cudaGraphNode_t> nodes;
  std::vector<cudaGraphEdgeData> edges;
};
using Ask = cudaError_t (*)(cudaGraphNode_t, cudaGraphNode_t*, cudaGraphEdgeData*, std::size_t*);
Neighbours neighbours(cudaGraphNode_t node, Ask ask) {
  std::size_t count = 0;
  check(ask(node, nullptr, nullptr, &count), "neighbours of a graph's node");
  Neighbours found{std::vector<cudaGraphNode_t>(count), std::vector<cudaGraphEdgeData>(count)};
  if (count > 0)
    check(ask(node, found.nodes.data(), found.edges.data(), &count), "neighbours of a graph's node");
  return found;
}

template <typename T>
cudaGraphNode_t add_fill(cudaGraph_t graph, const Neighbours& before, const cudaMemsetParams& memset) {
  T* to = static_cast<T*>(memset.dst);
  T value = static_cast<T>(memset.value);
  auto count = static_cast<unsigned>(memset.width);
  void* arguments[] = {&to, &value, &count};
  cudaGraphNodeParams node{};
  node.type = cudaGraphNodeTypeKernel;
  node.kernel.func = reinterpret_cast<void*>(&fill<T>);
  node.kernel.gridDim = dim3(1);
  node.kernel.blockDim = dim3(kThreads);
  node.kernel.kernelParams = arguments;
  cudaGraphNode_t added = nullptr;
  check(cudaGraphAddNode(&added, graph, before.nodes.data(), before.edges.data(), before.nodes.size(), &node),
        "cudaGraphAddNode");
  return added;
}

void replace(cudaGraph_t graph, cudaGraphNode_t node, const cudaMemsetParams& memset) {
  const Neighbours before = neighbours(node, &cudaGraphNodeGetDependencies);
  const Neighbours after = neighbours(node, &cudaGraphNodeGetDependentNodes);
  const auto add = memset.elementSize == 4   ? &add_fill<unsigned>
                   : memset.elementSize == 2 ? &add_fill<unsigned short>
                                             : &add_fill<unsigned char>;
  const cudaGraphNode_t added = add(graph, before, memset);
  const std::vector<cudaGraphNode_t> from(after.nodes.size(), added);
  if (!from.empty())
    check(cudaGraphAddDependencies(graph, from.data(), after.nodes.data(), after.edges.data(), from.size()),
          "cudaGraphAddDependencies");
  check(cudaGraphDestroyNode(node), "cudaGraphDestroyNode");
}

}  // namespace

std::vector<cudaGraphNode_t> nodes_of(cudaGraph_t graph, cudaGraphNodeType type) {
  std::size_t count = 0;
  check(cudaGraphGetNodes(graph, nullptr, &count), "cudaGraphGetNodes");
  std::vector<cudaGraphNode_t> nodes(count);
  if (count > 0) check(cudaGraphGetNodes(graph, nodes.data(), &count), "cudaGraphGetNodes");
  std::erase_if(nodes, [type](cudaGraphNode_t node) {
    cudaGraphNodeType its{};
    if (cudaGraphNodeGetType(node, &its) == cudaSuccess) return its != type;
    cudaGetLastError();  // of the driver's own kinds, such as those by which NCCL's copies wait
    return true;
  });
  return nodes;
}

void unchain(cudaGraph_t graph, cudaGraphNode_t node) {
  const Neighbours before = neighbours(node, &cudaGraphNodeGetDependencies);
  const Neighbours after = neighbours(node, &cudaGraphNodeGetDependentNodes);
  for (std::size_t i = 0; i < after.nodes.size(); ++i) {
    check(cudaGraphRemoveDependencies(graph, &node, &after.nodes[i], &after.edges[i], 1),
          "cudaGraphRemoveDependencies");
    for (const cudaGraphNode_t& earlier : before.nodes) {
      const Neighbours there = neighbours(earlier, &cudaGraphNodeGetDependentNodes);
      if (std::find(there.nodes.begin(), there.nodes.end(), after.nodes[i]) != there.nodes.end()) continue;
      const cudaGraphEdgeData plain{};
      check(cudaGraphAddDependencies(graph, &earlier, &after.nodes[i], &plain, 1),
            "cudaGraphAddDependencies");
    }
  }
}

void fill_by_kernels(cudaGraph_t graph) {
  for (const cudaGraphNode_t node : nodes_of(graph, cudaGraphNodeTypeMemset)) {
    cudaMemsetParams memset{};
    check(cudaGraphMemsetNodeGetParams(node, &memset), "cudaGraphMemsetNodeGetParams");
    if (memset.height == 1 && memset.width * memset.elementSize <= kMostBytes) replace(graph, node, memset);
  }
}

}  // namespace sluice::parallel
