#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>
#include <c10/core/Event.h>
#include <c10/core/InferenceMode.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>

#include <algorithm>
#include <cstdint>
#include <functional>
#include <numeric>
#include <utility>

#include "trainer/kernels/device_products.h"
#include "trainer/kernels/lt_product_cuda.h"

// Which algorithm is fastest: all candidates are timed shortly, the best of them longer and in turns, so that
// a drift of the clock speaks for none. They run as they do in a step, from captured graphs: there the few
// bytes that some kernels have cleared before each of their runs take longer than on a stream.
namespace sluice::kernels {
namespace {

constexpr int kCandidates = 16;
constexpr int kWithoutWorkspace = 8;  ///< more of them: those that clear nothing are seldom thought fastest
constexpr std::size_t kRuns = 4;      ///< of a graph
constexpr std::size_t kShortRounds = 2;
constexpr std::size_t kFinalists = 4;
constexpr std::size_t kLongRounds = 6;
constexpr double kGain = 0.99;  ///< of the first candidate's time: another must take less

at::ScalarType a_type(ProductOperands operands) {
  return operands == ProductOperands::kBf16 ? at::kBFloat16 : at::kFloat8_e4m3fn;
}
at::ScalarType b_type(ProductOperands operands) {
  return operands == ProductOperands::kE5m2 ? at::kFloat8_e5m2 : a_type(operands);
}

/// Buffers of one run; values N(0, 1), since zeros draw less power and so run faster.
struct RunBuffers {
  at::Tensor a, b, bias, d;
  float beta;

  RunBuffers(const ProductProblem& problem, at::Device device)
      : beta(problem.kind == ProductKind::kWeightGradient ? 1 : 0) {
    const auto bf16 = at::TensorOptions().dtype(at::kBFloat16).device(device);
    const auto random = [&](std::int64_t columns, std::int64_t stride, at::ScalarType type) {
      return at::empty({columns * stride}, bf16).normal_().to(type);
    };
    a = random(transposes_a(problem.kind) ? problem.m : problem.k, problem.a_stride,
               a_type(problem.operands));
    b = random(transposes_b(problem.kind) ? problem.k : problem.n, problem.b_stride,
               b_type(problem.operands));
    bias = random(1, problem.m, at::kBFloat16);
    const auto type = problem.result == ProductResult::kFloat ? at::kFloat : at::kBFloat16;
    d = at::zeros({problem.n * problem.d_stride}, bf16.dtype(type));
  }
  [[nodiscard]] std::size_t bytes() const { return a.nbytes() + b.nbytes() + d.nbytes(); }
  [[nodiscard]] LtOperands operands() const {
    return {.a = a.const_data_ptr(),
            .b = b.const_data_ptr(),
            .bias = bias.const_data_ptr(),
            .d = d.mutable_data_ptr(),
            .beta = beta};
  }
};

/// Runs of a product, captured.
class CapturedRuns {
 public:
  /// `run` enqueues one on the stream.
  CapturedRuns(cudaStream_t stream, const std::function<void()>& run) : stream_(stream) {
    C10_CUDA_CHECK(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
    for (std::size_t i = 0; i < kRuns; ++i) run();
    cudaGraph_t graph = nullptr;
    C10_CUDA_CHECK(cudaStreamEndCapture(stream, &graph));
    const cudaError_t result = cudaGraphInstantiate(&runs_, graph, 0);
    C10_CUDA_CHECK(cudaGraphDestroy(graph));
    C10_CUDA_CHECK(result);
  }
  ~CapturedRuns() {
    if (runs_ != nullptr) cudaGraphExecDestroy(runs_);
  }
  CapturedRuns(CapturedRuns&& other) noexcept
      : stream_(other.stream_), runs_(std::exchange(other.runs_, nullptr)) {}
  CapturedRuns& operator=(CapturedRuns&&) = delete;

  void replay() const { C10_CUDA_CHECK(cudaGraphLaunch(runs_, stream_)); }

 private:
  cudaStream_t stream_;
  cudaGraphExec_t runs_ = nullptr;
};

/// Runs of one problem, each on other buffers than those before it, in all more than a cache holds.
class Rehearsal {
 public:
  Rehearsal(const ProductProblem& problem, at::Device device)
      : device_(device), place_(lt_place(device)), product_(problem) {
    constexpr std::size_t kBeyondCache = std::size_t{192} << 20;
    constexpr std::size_t kMost = 16;
    buffers_.emplace_back(problem, device);
    const std::size_t count = std::clamp<std::size_t>(kBeyondCache / buffers_[0].bytes() + 1, 2, kMost);
    while (buffers_.size() < count) buffers_.emplace_back(problem, device);
  }

  /// Those that run. The first time loads the code.
  [[nodiscard]] std::vector<ProductAlgorithm> candidates() {
    std::vector<ProductAlgorithm> all = product_.candidates(place_, kCandidates);
    for (const ProductAlgorithm& one : product_.candidates(place_, kWithoutWorkspace, 0))
      if (std::find(all.begin(), all.end(), one) == all.end()) all.push_back(one);
    std::erase_if(all, [&](const ProductAlgorithm& one) { return run(one) != CUBLAS_STATUS_SUCCESS; });
    return all;
  }
  /// Seconds of a run, by algorithm and round; the algorithms take turns.
  [[nodiscard]] std::vector<std::vector<double>> time(const std::vector<ProductAlgorithm>& algorithms,
                                                      std::size_t rounds) {
    std::vector<CapturedRuns> captured;
    for (const ProductAlgorithm& one : algorithms)
      captured.emplace_back(place_.stream, [&] { check_lt(run(one), "cublasLtMatmul", product_.problem()); });
    const c10::Stream stream = c10::cuda::getCurrentCUDAStream(device_.index()).unwrap();
    std::vector<c10::Event> marks;
    for (std::size_t i = 0; i <= rounds * captured.size(); ++i)
      marks.emplace_back(device_.type(), c10::EventFlag::BACKEND_DEFAULT);
    marks[0].record(stream);
    for (std::size_t i = 1; i < marks.size(); ++i) {
      captured[(i - 1) % captured.size()].replay();
      marks[i].record(stream);
    }
    marks.back().synchronize();
    std::vector<std::vector<double>> seconds(captured.size());
    for (std::size_t i = 1; i < marks.size(); ++i)
      seconds[(i - 1) % captured.size()].push_back(1e-3 * marks[i - 1].elapsedTime(marks[i]) / kRuns);
    return seconds;
  }

 private:
  [[nodiscard]] cublasStatus_t run(const ProductAlgorithm& algorithm) {
    return product_.enqueue(place_, algorithm, buffers_[next_++ % buffers_.size()].operands());
  }

  at::Device device_;
  LtPlace place_;
  LtProduct product_;
  std::vector<RunBuffers> buffers_;
  std::size_t next_ = 0;
};

double least(const std::vector<double>& seconds) { return *std::min_element(seconds.begin(), seconds.end()); }

double median(std::vector<double> seconds) {
  const auto middle = seconds.begin() + static_cast<std::ptrdiff_t>(seconds.size() / 2);
  std::nth_element(seconds.begin(), middle, seconds.end());
  return *middle;
}

/// The first candidate, then the fastest others.
std::vector<ProductAlgorithm> finalists(Rehearsal& rehearsal, const std::vector<ProductAlgorithm>& all) {
  const auto seconds = rehearsal.time(all, kShortRounds);
  std::vector<std::size_t> order(all.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::sort(order.begin() + 1, order.end(),
            [&](std::size_t one, std::size_t other) { return least(seconds[one]) < least(seconds[other]); });
  order.resize(std::min(order.size(), kFinalists));
  std::vector<ProductAlgorithm> best;
  for (const std::size_t index : order) best.push_back(all[index]);
  return best;
}

}  // namespace

std::vector<TunedProduct> tune_products(const std::vector<ProductProblem>& problems, at::Device device) {
  const c10::InferenceMode no_autograd;
  const c10::cuda::CUDAGuard guard(device);
  std::vector<TunedProduct> tuned;
  for (const ProductProblem& problem : problems) {
    Rehearsal rehearsal(problem, device);
    const std::vector<ProductAlgorithm> all = rehearsal.candidates();
    if (all.empty()) continue;
    const std::vector<ProductAlgorithm> best = finalists(rehearsal, all);
    std::vector<double> seconds;
    for (const auto& runs : rehearsal.time(best, kLongRounds)) seconds.push_back(median(runs));
    std::size_t chosen = 0;
    for (std::size_t i = 1; i < best.size(); ++i)
      if (seconds[i] < seconds[chosen] && seconds[i] < kGain * seconds[0]) chosen = i;
    tuned.push_back({.problem = problem,
                     .algorithm = best[chosen],
                     .first_s = seconds[0],
                     .tuned_s = seconds[chosen],
                     .candidates = static_cast<std::int64_t>(all.size())});
  }
  return tuned;
}

}  // namespace sluice::kernels
