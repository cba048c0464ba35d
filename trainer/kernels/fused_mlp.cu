#include "trainer/kernels/cuda_check.cuh"
#include "trainer/kernels/cuda_fused_rows.cuh"

namespace sluice::kernels::launch {
namespace {

using namespace rows;

template <GeluForm kForm, typename C>
__device__ Gelu activation(float x) {
  if constexpr (kForm == GeluForm::kExact) return gelu<C>(x);
  if constexpr (std::is_same_v<C, float>) return gelu_tanh_exact(x);
  return gelu_tanh_fast(x);
}

template <typename S, typename C>
constexpr int kMlpRows = S::kParts == 2 || std::is_same_v<C, float> ? 1 : 2;

template <typename S, typename C, GeluForm kForm>
__global__ void __launch_bounds__(S::kThreads, S::kBlocks)
    gelu_forward_kernel(const ActivationForward a, const Shape shape) {
  constexpr int kRows = kMlpRows<S, C>;
  const Seat<S::kParts> seat(shape);
  Raw<C> ahead[kRows][S::kParts], now[kRows][S::kParts];
  const auto* input = static_cast<const C*>(a.input);
  const int step = shape.groups * kRows;
  const int stride = static_cast<int>(gridDim.x) * step;
  const int start = static_cast<int>(blockIdx.x) * step + seat.group * kRows;
  fetch_rows(ahead, input, shape.width, start, shape, seat);
  for (int row = start; row < shape.rows; row += stride) {
#pragma unroll
    for (int r = 0; r < kRows; ++r)
#pragma unroll
      for (int part = 0; part < S::kParts; ++part) now[r][part] = ahead[r][part];
    fetch_rows(ahead, input, shape.width, row + stride, shape, seat);
#pragma unroll
    for (int r = 0; r < kRows; ++r)
#pragma unroll
      for (int part = 0; part < S::kParts; ++part) {
        Eight v = values(now[r][part]);
#pragma unroll
        for (int i = 0; i < kVector; ++i) v.at[i] = activation<kForm, C>(v.at[i]).value;
        if (row + r < shape.rows && seat.taken[part])
          put(static_cast<C*>(a.y) + static_cast<std::int64_t>(row + r) * shape.width + seat.column[part], v);
      }
  }
}

template <typename S, typename C, GeluForm kForm>
__global__ void __launch_bounds__(S::kThreads, S::kBlocks)
    gelu_backward_kernel(const ActivationBackward a, const Shape shape) {
  constexpr int kRows = kMlpRows<S, C>;
  __shared__ Leaver<S> leaver;
  const Seat<S::kParts> seat(shape);
  float of_input[S::kParts][kVector] = {};
  struct {
    Raw<C> dy[kRows][S::kParts];
    Raw<C> input[kRows][S::kParts];
  } ahead, now;
  const auto fetch_all = [&](auto& to, int row) {
    fetch_rows(to.dy, static_cast<const C*>(a.dy), shape.width, row, shape, seat);
    fetch_rows(to.input, static_cast<const C*>(a.input), shape.width, row, shape, seat);
  };
  const int step = shape.groups * kRows;
  const int stride = static_cast<int>(gridDim.x) * step;
  const int start = static_cast<int>(blockIdx.x) * step + seat.group * kRows;
  if constexpr (S::kAhead) fetch_all(ahead, start);
  for (int row = start; row < shape.rows; row += stride) {
    if constexpr (S::kAhead) {
      now = ahead;
      fetch_all(ahead, row + stride);
    } else {
      fetch_all(now, row);
    }
#pragma unroll
    for (int r = 0; r < kRows; ++r)
#pragma unroll
      for (int part = 0; part < S::kParts; ++part) {
        const Eight x = values(now.input[r][part]);
        Eight out = values(now.dy[r][part]);
#pragma unroll
        for (int i = 0; i < kVector; ++i) {
          out.at[i] *= activation<kForm, C>(x.at[i]).slope;
          of_input[part][i] += out.at[i];
        }
        if (row + r < shape.rows && seat.taken[part])
          put(static_cast<C*>(a.dinput) + static_cast<std::int64_t>(row + r) * shape.width +
                  seat.column[part],
              out);
      }
  }
  leaver.leave(of_input, a.partials, seat, shape);
}

template <typename S, typename C>
__global__ void __launch_bounds__(S::kThreads, S::kBlocks) join_kernel(const Join a, const Shape shape) {
  constexpr int kRows = kMlpRows<S, C>;
  __shared__ Leaver<S> leaver;
  const Seat<S::kParts> seat(shape);
  const int narrow = shape.width / kJoined;
  const C* from[S::kParts];  // a thread's columns are all of one part
#pragma unroll
  for (int part = 0; part < S::kParts; ++part) {
    const int which = min(seat.column[part] / narrow, kJoined - 1);
    from[part] = static_cast<const C*>(a.parts[which]) + (seat.column[part] - which * narrow);
  }
  float sum[S::kParts][kVector] = {};
  const int step = shape.groups * kRows;
  const int stride = static_cast<int>(gridDim.x) * step;
  const int start = static_cast<int>(blockIdx.x) * step + seat.group * kRows;
  for (int row = start; row < shape.rows; row += stride) {
    Raw<C> v[kRows][S::kParts];
#pragma unroll
    for (int r = 0; r < kRows; ++r)
#pragma unroll
      for (int part = 0; part < S::kParts; ++part)
        v[r][part] = fetch(from[part] + static_cast<std::int64_t>(row + r) * narrow,
                           row + r < shape.rows && seat.taken[part]);
#pragma unroll
    for (int r = 0; r < kRows; ++r)
#pragma unroll
      for (int part = 0; part < S::kParts; ++part) {
        const Eight out = values(v[r][part]);
#pragma unroll
        for (int i = 0; i < kVector; ++i) sum[part][i] += out.at[i];
        if (row + r < shape.rows && seat.taken[part])
          put(static_cast<C*>(a.joined) + static_cast<std::int64_t>(row + r) * shape.width +
                  seat.column[part],
              out);
      }
  }
  leaver.leave(sum, a.partials, seat, shape);
}

/// Calls run with the form as a type.
template <typename Run>
void for_form(GeluForm form, const Run& run) {
  if (form == GeluForm::kExact) return run(std::integral_constant<GeluForm, GeluForm::kExact>{});
  run(std::integral_constant<GeluForm, GeluForm::kTanh>{});
}

/// Calls run(S, C, shape, blocks) for a pass over rows.
template <typename Run>
int over_rows(std::int64_t rows, std::int64_t width, Precision compute, const Run& run) {
  int blocks = 0;
  for_compute(compute, [&]<typename C>(C c) {
    for_width(width, [&]<typename S>(S s) {
      const Shape shape = shape_of<S>(rows, width);
      blocks = blocks_of<S>(shape, kMlpRows<S, C>);
      run(s, c, shape, static_cast<unsigned>(blocks), static_cast<unsigned>(threads_of(shape)));
    });
  });
  return blocks;
}

}  // namespace

void gelu_forward(const ActivationForward& a, Precision compute, cudaStream_t stream) {
  over_rows(a.rows, a.width, compute,
            [&]<typename S, typename C>(S, C, const Shape& shape, unsigned blocks, unsigned threads) {
              for_form(a.form, [&](auto form) {
                gelu_forward_kernel<S, C, decltype(form)::value><<<blocks, threads, 0, stream>>>(a, shape);
              });
            });
  check_launch("gelu_forward");
}

int gelu_backward(const ActivationBackward& a, Precision compute, cudaStream_t stream) {
  const int left = over_rows(
      a.rows, a.width, compute,
      [&]<typename S, typename C>(S, C, const Shape& shape, unsigned blocks, unsigned threads) {
        for_form(a.form, [&](auto form) {
          gelu_backward_kernel<S, C, decltype(form)::value><<<blocks, threads, 0, stream>>>(a, shape);
        });
      });
  check_launch("gelu_backward");
  return left;
}

int join_columns(const Join& a, Precision compute, cudaStream_t stream) {
  const int left =
      over_rows(a.rows, a.width, compute,
                [&]<typename S, typename C>(S, C, const Shape& shape, unsigned blocks, unsigned threads) {
                  join_kernel<S, C><<<blocks, threads, 0, stream>>>(a, shape);
                });
  check_launch("join_columns");
  return left;
}

}  // namespace sluice::kernels::launch
