#include "tests/support/gpu_paths.h"

#include <ATen/cuda/CUDAGraph.h>
#include <ATen/ops/zeros.h>
#include <c10/cuda/CUDAFunctions.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>

#include "tests/support/gpu_ranks.h"

namespace sluice::tests {

std::string path_name(const testing::TestParamInfo<Path>& path) {
  return path.param == Path::kDirect ? "Direct" : "Graph";
}

at::Tensor OnBothPaths::on_gpu(std::int64_t count, at::ScalarType type) {
  const at::Tensor zeros = at::zeros({count}, at::TensorOptions().dtype(type).device(gpu_of_rank()));
  c10::cuda::device_synchronize();  // the default stream's work is not ordered before run_on_gpu's
  return zeros;
}

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
