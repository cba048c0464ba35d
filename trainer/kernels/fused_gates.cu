#include "trainer/kernels/cuda_check.cuh"
#include "trainer/kernels/cuda_fused_rows.cuh"

namespace sluice::kernels::launch {
namespace {

using namespace rows;

/// The position of each of a thread's rows, kept up to date without a division.
template <int kRows>
class Positions {
 public:
  __device__ Positions(int row, int stride, int positions)
      : step_(stride % positions), positions_(positions) {
#pragma unroll
    for (int r = 0; r < kRows; ++r) at_[r] = (row + r) % positions;
  }

  __device__ int operator[](int r) const { return at_[r]; }

  __device__ void advance() {
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      at_[r] += step_;
      if (at_[r] >= positions_) at_[r] -= positions_;
    }
  }

 private:
  int step_;
  int positions_;
  int at_[kRows];
};

__device__ float one_value(const float* from) { return __ldg(from); }
__device__ float one_value(const __nv_bfloat16* from) {
  return __uint_as_float(static_cast<unsigned>(__ldg(reinterpret_cast<const unsigned short*>(from))) << 16);
}

/// What the bias adds to each of a thread's rows.
template <typename C, int kRows>
__device__ void fetch_shifts(float (&to)[kRows], const void* bias, const Positions<kRows>& positions) {
#pragma unroll
  for (int r = 0; r < kRows; ++r)
    to[r] = bias != nullptr ? one_value(static_cast<const C*>(bias) + positions[r]) : 0.0F;
}

template <typename S, typename C>
constexpr int kGateRows = S::kParts == 2 || std::is_same_v<C, float> ? 1 : 2;

template <typename S, typename C>
__global__ void __launch_bounds__(S::kThreads, S::kBlocks)
    gate_forward_kernel(const GateForward a, const Shape shape) {
  constexpr int kRows = kGateRows<S, C>;
  const Seat<S::kParts> seat(shape);
  struct {
    Raw<C> input[kRows][S::kParts];
    Raw<C> mixed[kRows][S::kParts];
    float shift[kRows];
  } ahead, now;
  const int step = shape.groups * kRows;
  const int stride = static_cast<int>(gridDim.x) * step;
  const int start = static_cast<int>(blockIdx.x) * step + seat.group * kRows;
  Positions<kRows> positions(start, stride, static_cast<int>(a.positions));
  const auto fetch_all = [&](auto& to, int row) {
    fetch_rows(to.input, static_cast<const C*>(a.input.data), a.input.stride, row, shape, seat);
    fetch_rows(to.mixed, static_cast<const C*>(a.mixed.data), a.mixed.stride, row, shape, seat);
    fetch_shifts<C>(to.shift, a.bias, positions);
    positions.advance();
  };
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
        Eight out = values(now.mixed[r][part]);
#pragma unroll
        for (int i = 0; i < kVector; ++i) out.at[i] = gelu<C>(x.at[i]).value * (out.at[i] + now.shift[r]);
        if (row + r < shape.rows && seat.taken[part])
          put(static_cast<C*>(a.z) + static_cast<std::int64_t>(row + r) * shape.width + seat.column[part],
              out);
      }
  }
}

template <typename S, typename C>
__global__ void __launch_bounds__(S::kThreads, S::kBlocks)
    gate_backward_kernel(const GateBackward a, const Shape shape) {
  constexpr int kRows = kGateRows<S, C>;
  __shared__ Leaver<S> leaver;
  const Seat<S::kParts> seat(shape);
  float of_input[S::kParts][kVector] = {};
  struct {
    Raw<C> dz[kRows][S::kParts];
    Raw<C> input[kRows][S::kParts];
    Raw<C> mixed[kRows][S::kParts];
    float shift[kRows];
  } ahead, now;
  const int step = shape.groups * kRows;
  const int stride = static_cast<int>(gridDim.x) * step;
  const int start = static_cast<int>(blockIdx.x) * step + seat.group * kRows;
  Positions<kRows> positions(start, stride, static_cast<int>(a.positions));
  const auto fetch_all = [&](auto& to, int row) {
    fetch_rows(to.dz, static_cast<const C*>(a.dz.data), a.dz.stride, row, shape, seat);
    fetch_rows(to.input, static_cast<const C*>(a.input.data), a.input.stride, row, shape, seat);
    fetch_rows(to.mixed, static_cast<const C*>(a.mixed.data), a.mixed.stride, row, shape, seat);
    fetch_shifts<C>(to.shift, a.bias, positions);
    positions.advance();
  };
  float* const row_partials =
      a.row_partials + static_cast<std::int64_t>(seat.warp - seat.group * shape.warps) * shape.rows;
  if constexpr (S::kAhead) fetch_all(ahead, start);
  for (int row = start; row < shape.rows; row += stride) {
    if constexpr (S::kAhead) {
      now = ahead;
      fetch_all(ahead, row + stride);
    } else {
      fetch_all(now, row);
    }
    float of_row[kRows] = {};
#pragma unroll
    for (int r = 0; r < kRows; ++r)
#pragma unroll
      for (int part = 0; part < S::kParts; ++part) {
        const Eight x = values(now.input[r][part]);
        const Eight outer = values(now.dz[r][part]);
        const Eight mixed = values(now.mixed[r][part]);
        Eight dmixed;
        Eight dinput;
        Eight z;
#pragma unroll
        for (int i = 0; i < kVector; ++i) {
          const Gelu u = gelu<C>(x.at[i]);
          const float shifted = mixed.at[i] + now.shift[r];
          z.at[i] = u.value * shifted;
          dinput.at[i] = outer.at[i] * shifted * u.slope;
          dmixed.at[i] = outer.at[i] * u.value;
          of_input[part][i] += dinput.at[i];
          of_row[r] += dmixed.at[i];
        }
        if (row + r >= shape.rows || !seat.taken[part]) continue;
        put(static_cast<C*>(a.dinput) + (row + r) * a.dinput_stride + seat.column[part], dinput);
        const std::int64_t at = static_cast<std::int64_t>(row + r) * shape.width + seat.column[part];
        put(static_cast<C*>(a.dmixed) + at, dmixed);
        put(static_cast<C*>(a.z) + at, z);
      }
    // A row's warps leave its sum side by side: the rows of a position then add up like those of a column.
    const float all = joint_sum<kRows>(of_row, seat.lane);
    const int mine = row + seat.lane / (kWarp / kRows);
    if (seat.lane % (kWarp / kRows) == 0 && mine < shape.rows) row_partials[mine] = all;
  }
  leaver.leave(of_input, a.partials, seat, shape);
}

constexpr int kSegments = 32;  // of the rows, added up side by side

__global__ void __launch_bounds__(kWarp* kSegments) column_sums_kernel(const ColumnSums sums) {
  int block = static_cast<int>(blockIdx.x);
  int which = 0;
  for (; which < kColumnSums - 1; ++which) {
    const int blocks = sums.of[which].into == nullptr ? 0 : (sums.of[which].columns + kWarp - 1) / kWarp;
    if (block < blocks) break;
    block -= blocks;
  }
  const ColumnSum& one = sums.of[which];
  const int column = block * kWarp + static_cast<int>(threadIdx.x);
  float sum = 0;
  if (column < one.columns) {
#pragma unroll 8
    for (int row = static_cast<int>(threadIdx.y); row < one.rows; row += kSegments)
      sum += one.partials[static_cast<std::int64_t>(row) * one.columns + column];
  }
  __shared__ float shared[kSegments][kWarp];
  shared[threadIdx.y][threadIdx.x] = sum;
  __syncthreads();
  if (threadIdx.y != 0 || column >= one.columns) return;
  float all = 0;
#pragma unroll
  for (int segment = 0; segment < kSegments; ++segment) all += shared[segment][threadIdx.x];
  one.into[column] += all;
}

}  // namespace

void add_column_sums(const ColumnSums& sums, cudaStream_t stream) {
  int blocks = 0;
  for (const ColumnSum& one : sums.of) blocks += one.into == nullptr ? 0 : (one.columns + kWarp - 1) / kWarp;
  if (blocks == 0) return;
  column_sums_kernel<<<static_cast<unsigned>(blocks), dim3(kWarp, kSegments), 0, stream>>>(sums);
  check_launch("add_column_sums");
}

void gate_forward(const GateForward& a, Precision compute, cudaStream_t stream) {
  for_compute(compute, [&]<typename C>(C) {
    for_width(a.width, [&]<typename S>(S) {
      const Shape shape = shape_of<S>(a.rows, a.width);
      gate_forward_kernel<S, C><<<static_cast<unsigned>(blocks_of<S>(shape, kGateRows<S, C>)),
                                  static_cast<unsigned>(threads_of(shape)), 0, stream>>>(a, shape);
    });
  });
  check_launch("gate_forward");
}

int gate_backward(const GateBackward& a, Precision compute, cudaStream_t stream) {
  int blocks = 0;
  for_compute(compute, [&]<typename C>(C) {
    for_width(a.width, [&]<typename S>(S) {
      const Shape shape = shape_of<S>(a.rows, a.width);
      blocks = blocks_of<S>(shape, kGateRows<S, C>);
      gate_backward_kernel<S, C>
          <<<static_cast<unsigned>(blocks), static_cast<unsigned>(threads_of(shape)), 0, stream>>>(a, shape);
    });
  });
  check_launch("gate_backward");
  return blocks;
}

}  // namespace sluice::kernels::launch
