#include "trainer/kernels/lt_product_cuda.h"

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>

#include <array>
#include <cstdint>
#include <cstring>
#include <map>
#include <mutex>
#include <stdexcept>
#include <string>
#include <utility>

namespace sluice::kernels {
namespace {

static_assert(sizeof(ProductAlgorithm) == sizeof(cublasLtMatmulAlgo_t));

cublasLtMatmulAlgo_t as_library(const ProductAlgorithm& algorithm) {
  cublasLtMatmulAlgo_t result{};
  std::memcpy(&result, algorithm.data(), sizeof result);
  return result;
}

cudaDataType_t type_of_a(ProductOperands operands) {
  return operands == ProductOperands::kBf16 ? CUDA_R_16BF : CUDA_R_8F_E4M3;
}
cudaDataType_t type_of_b(ProductOperands operands) {
  return operands == ProductOperands::kE5m2 ? CUDA_R_8F_E5M2 : type_of_a(operands);
}

struct Places {
  std::mutex mutex;
  std::map<c10::DeviceIndex, cublasLtHandle_t> handles;
  std::map<std::pair<c10::DeviceIndex, cudaStream_t>, at::Tensor> workspaces;
};

}  // namespace

void check_lt(cublasStatus_t status, const char* call, const ProductProblem& problem) {
  if (status == CUBLAS_STATUS_SUCCESS) return;
  throw std::runtime_error(std::string(call) + ", " + text_of(problem) + ": " +
                           cublasLtGetStatusName(status) + ", " + cublasLtGetStatusString(status));
}

LtPlace lt_place(c10::Device device) {
  static Places* const places = new Places;  // for ever: the device's runtime may go before statics do
  const c10::cuda::CUDAGuard guard(device);
  const cudaStream_t stream = c10::cuda::getCurrentCUDAStream(device.index()).stream();
  const std::lock_guard lock(places->mutex);
  cublasLtHandle_t& handle = places->handles[device.index()];
  if (handle == nullptr) check_lt(cublasLtCreate(&handle), "cublasLtCreate", {});
  at::Tensor& workspace = places->workspaces[{device.index(), stream}];
  if (!workspace.defined()) {
    workspace = at::empty({static_cast<std::int64_t>(kLtWorkspaceBytes)},
                          at::TensorOptions().dtype(at::kByte).device(device));
  }
  return {handle, workspace.mutable_data_ptr(), stream};
}

LtProduct::LtProduct(const ProductProblem& problem) : problem_(problem) {
  const auto check = [&](cublasStatus_t status) { check_lt(status, "describing a product", problem_); };
  check(cublasLtMatmulDescInit(&operation_, CUBLAS_COMPUTE_32F, CUDA_R_32F));
  const auto set = [&](cublasLtMatmulDescAttributes_t attribute, auto value) {
    check(cublasLtMatmulDescSetAttribute(&operation_, attribute, &value, sizeof value));
  };
  const auto operation = [](bool transposed) {
    return static_cast<std::int32_t>(transposed ? CUBLAS_OP_T : CUBLAS_OP_N);
  };
  const bool a_transposed = transposes_a(problem.kind);
  const bool b_transposed = transposes_b(problem.kind);
  set(CUBLASLT_MATMUL_DESC_TRANSA, operation(a_transposed));
  set(CUBLASLT_MATMUL_DESC_TRANSB, operation(b_transposed));
  const bool biased = problem.kind == ProductKind::kLinearBias;
  set(CUBLASLT_MATMUL_DESC_EPILOGUE,
      static_cast<std::uint32_t>(biased ? CUBLASLT_EPILOGUE_BIAS : CUBLASLT_EPILOGUE_DEFAULT));

  const auto layout = [&](cublasLtMatrixLayoutOpaque_t& matrix, cudaDataType_t type, std::int64_t rows,
                          std::int64_t columns, std::int64_t stride) {
    check(cublasLtMatrixLayoutInit(&matrix, type, static_cast<std::uint64_t>(rows),
                                   static_cast<std::uint64_t>(columns), stride));
  };
  const auto [m, n, k] = std::array{problem.m, problem.n, problem.k};
  // In forward sums are carried on as the tensor cores do (13 bits beyond the largest term); those of
  // gradients in fp32 after every few terms.
  if (problem.operands == ProductOperands::kE4m3) set(CUBLASLT_MATMUL_DESC_FAST_ACCUM, std::int8_t{1});
  layout(a_, type_of_a(problem.operands), a_transposed ? k : m, a_transposed ? m : k, problem.a_stride);
  layout(b_, type_of_b(problem.operands), b_transposed ? n : k, b_transposed ? k : n, problem.b_stride);
  layout(d_, problem.result == ProductResult::kBf16 ? CUDA_R_16BF : CUDA_R_32F, m, n, problem.d_stride);
}

void LtProduct::set_bias(const void* bias) {
  if (problem_.kind != ProductKind::kLinearBias) return;
  check_lt(cublasLtMatmulDescSetAttribute(&operation_, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &bias, sizeof bias),
           "setting a bias", problem_);
}

void LtProduct::set_units(const LtOperands& operands) {
  if (problem_.operands == ProductOperands::kBf16) return;
  const auto set = [&](cublasLtMatmulDescAttributes_t attribute, const float* unit) {
    check_lt(cublasLtMatmulDescSetAttribute(&operation_, attribute, &unit, sizeof unit), "setting a unit",
             problem_);
  };
  set(CUBLASLT_MATMUL_DESC_A_SCALE_POINTER, operands.a_unit);
  set(CUBLASLT_MATMUL_DESC_B_SCALE_POINTER, operands.b_unit);
}

std::vector<ProductAlgorithm> LtProduct::candidates(const LtPlace& place, int most,
                                                    std::size_t workspace_bytes) {
  cublasLtMatmulPreferenceOpaque_t preference{};
  check_lt(cublasLtMatmulPreferenceInit(&preference), "cublasLtMatmulPreferenceInit", problem_);
  const auto prefer = [&](cublasLtMatmulPreferenceAttributes_t attribute, auto value) {
    check_lt(cublasLtMatmulPreferenceSetAttribute(&preference, attribute, &value, sizeof value),
             "cublasLtMatmulPreferenceSetAttribute", problem_);
  };
  prefer(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, std::uint64_t{workspace_bytes});
  // Sums that are split go through fp32 in the workspace and are added up in a step of their own.
  prefer(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
         static_cast<std::uint32_t>(CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE));
  for (const auto attribute :
       {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
        CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES})
    prefer(attribute, static_cast<std::uint32_t>(kLtAlignment));
  // The choice may depend on the bias's alignment: let it be the same wherever a bias lies.
  set_bias(reinterpret_cast<const void*>(kLtAlignment));

  std::vector<cublasLtMatmulHeuristicResult_t> found(static_cast<std::size_t>(most));
  int count = 0;
  const cublasStatus_t status = cublasLtMatmulAlgoGetHeuristic(place.handle, &operation_, &a_, &b_, &d_, &d_,
                                                               &preference, most, found.data(), &count);
  if (status == CUBLAS_STATUS_NOT_SUPPORTED) return {};
  check_lt(status, "cublasLtMatmulAlgoGetHeuristic", problem_);
  std::vector<ProductAlgorithm> algorithms;
  for (const auto& one : std::vector(found.begin(), found.begin() + count)) {
    if (one.state != CUBLAS_STATUS_SUCCESS || one.workspaceSize > workspace_bytes) continue;
    std::memcpy(algorithms.emplace_back().data(), &one.algo, sizeof one.algo);
  }
  return algorithms;
}

bool LtProduct::accepts(const LtPlace& place, const ProductAlgorithm& algorithm) {
  const cublasLtMatmulAlgo_t checked = as_library(algorithm);
  set_bias(reinterpret_cast<const void*>(kLtAlignment));
  cublasLtMatmulHeuristicResult_t result{};
  return cublasLtMatmulAlgoCheck(place.handle, &operation_, &a_, &b_, &d_, &d_, &checked, &result) ==
             CUBLAS_STATUS_SUCCESS &&
         result.workspaceSize <= kLtWorkspaceBytes;
}

cublasStatus_t LtProduct::enqueue(const LtPlace& place, const ProductAlgorithm& algorithm,
                                  const LtOperands& operands) {
  set_bias(operands.bias);
  set_units(operands);
  const cublasLtMatmulAlgo_t chosen = as_library(algorithm);
  const float alpha = 1;
  return cublasLtMatmul(place.handle, &operation_, &alpha, operands.a, &a_, operands.b, &b_, &operands.beta,
                        operands.d, &d_, operands.d, &d_, &chosen, place.workspace, kLtWorkspaceBytes,
                        place.stream);
}

}  // namespace sluice::kernels
