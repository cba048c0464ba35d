#include "tests/support/gpu_paths.h"

#include <ATen/cuda/CUDAGraph.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>

#include "tests/support/gpu_ranks.h"

namespace sluice::tests {

void run_on_gpu(Path path, const std::function<void()>& refill, const std::function<void()>& work) {
  const c10::cuda::CUDAStream stream = c10::cuda::getStreamFromPool(false, gpu_of_rank().index());
  const c10::cuda::CUDAStreamGuard guard(stream);
  refill();
  work();  // in any case: connections are made on first use
  stream.synchronize();
  if (path == Path::kDirect) return;
  at::cuda::CUDAGraph graph;
  graph.capture_begin({0, 0}, cudaStreamCaptureModeThreadLocal);
  work();
  graph.capture_end();
  for (int replay = 0; replay < 2; ++replay) {
    refill();
    graph.replay();
    stream.synchronize();
  }
}

}  // namespace sluice::tests
