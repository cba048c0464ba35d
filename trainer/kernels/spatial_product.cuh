#pragma once

#include <cuda_bf16.h>

#include "trainer/kernels/gelu.h"
#include "trainer/kernels/hopper.cuh"
#include "trainer/kernels/spatial_launch.h"

// The products of the spatial gating unit (arXiv 2105.08050, section 2.1) on sm_90a. A thread block computes
// a tile of 128 rows: one warp asks the copy engine for the tiles of both operands, two groups of four warps
// multiply them, 64 rows each. Where W is lower triangular, tiles above the diagonal are neither copied nor
// multiplied.
//
// Tiles in shared memory are as wide as a swizzled row: 64 elements.
namespace sluice::kernels::launch::spatial {

using hopper::copy_box;

enum class Kind {
  kForward,  ///< s[i, c] = sum over j of W[i, j] v[j, c]
  kInput,    ///< dv[j, c] = sum over i of W[i, j] ds[i, c]
  kWeight,   ///< dW[i, j] = sum over batch and c of ds[i, c] v[j, c]
};

constexpr int kRows = static_cast<int>(kSpatialTile);
constexpr int kStep = 64;             // of the reduced dimension, that a stage holds
constexpr int kBox = 64 * kStep * 2;  // bytes of 64 x 64 elements
constexpr int kConsumers = 256;
constexpr int kThreads = kConsumers + 32;

template <int kColumns>
struct Tile {
  static constexpr int kStages = kColumns == 128 ? 3 : 4;
  static constexpr int kBlocks = kColumns == 128 ? 2 : 1;  // of one multiprocessor
  static constexpr int kLeft = kRows / 64 * kBox;
  static constexpr int kStage = kLeft + kColumns / 64 * kBox;
  static constexpr int kShared = kStages * kStage + 1024;  // to align the first
};

struct Problem {
  int positions;
  int width;
  int batch;
  int row_tiles;
  int column_tiles;
  int tiles;      // of the output, over all sequences or parts of the batch
  int splits;     // of the batch, kWeight
  int row_major;  // all sequences' tiles of the same rows follow one another, not all rows of a sequence
  int lower;
  const __nv_bfloat16* bias;
  __nv_bfloat16* mixed;
  __nv_bfloat16* out;
  float* sum;
  std::int64_t sum_stride;
  float* partials;
};

struct Maps {
  CUtensorMap left;
  CUtensorMap diagonal;
  CUtensorMap right;
  CUtensorMap bypass;
};

struct Work {
  int row = 0;  // first of the output tile
  int column = 0;
  int batch = 0;  // first of those reduced over, kWeight
  int first = 0;  // of the reduced dimension
  int steps = 0;
};

/// Tiles with most to do first, and what shares operands close together.
template <int kColumns>
__device__ Work product_work(const Problem& p, int index, bool transposed) {
  Work work;
  work.column = index % p.column_tiles * kColumns;
  index /= p.column_tiles;
  int row_tile = p.row_major ? index / p.batch : index % p.row_tiles;
  work.batch = p.row_major ? index % p.batch : index / p.row_tiles;
  if (p.lower && !transposed) row_tile = p.row_tiles - 1 - row_tile;
  work.row = row_tile * kRows;
  const int end = p.lower && !transposed ? min(p.positions, work.row + kRows) : p.positions;
  work.first = p.lower && transposed ? work.row : 0;
  work.steps = (end - work.first + kStep - 1) / kStep;
  return work;
}

/// Column tiles that row tiles [0, row_tile] have each at most.
template <int kColumns>
__device__ int column_tiles_of(const Problem& p, int row_tile) {
  return p.lower ? min(p.column_tiles, ((row_tile + 1) * kRows + kColumns - 1) / kColumns) : p.column_tiles;
}

/// Bands of row tiles, column by column within a band: tiles that run side by side then share both operands.
template <int kColumns>
__device__ Work weight_work(const Problem& p, int index) {
  constexpr int kBand = 16;
  const int of_part = p.tiles / p.splits;
  Work work;
  const int split = index / of_part;
  index %= of_part;
  int first = 0;
  int rows = 0;
  for (;; first += kBand) {
    rows = min(kBand, p.row_tiles - first);
    int count = 0;
    for (int row = first; row < first + rows; ++row) count += column_tiles_of<kColumns>(p, row);
    if (index < count) break;
    index -= count;
  }
  int column = 0;
  int top = first;  // the first row tile of the band that reaches this column
  for (;; ++column) {
    while (column_tiles_of<kColumns>(p, top) <= column) ++top;
    const int count = first + rows - top;
    if (index < count) break;
    index -= count;
  }
  work.row = (top + index) * kRows;
  work.column = column * kColumns;
  work.batch = p.batch * split / p.splits;
  work.steps = (p.batch * (split + 1) / p.splits - work.batch) * ((p.width + kStep - 1) / kStep);
  return work;
}

template <Kind kKind, int kColumns>
__device__ Work work_of(const Problem& p, int tile) {
  if constexpr (kKind == Kind::kWeight) return weight_work<kColumns>(p, tile);
  return product_work<kColumns>(p, tile, kKind == Kind::kInput);
}

/// Asks for both operands' tiles of one step. Each kind's boxes: see map_*.
template <Kind kKind, int kColumns>
__device__ void load_step(const Maps& maps, const Problem& p, const Work& work, int step, char* stage,
                          std::uint64_t* full) {
  char* const right_tile = stage + Tile<kColumns>::kLeft;
  if constexpr (kKind == Kind::kWeight) {
    const int steps_of_row = (p.width + kStep - 1) / kStep;
    const int batch = work.batch + step / steps_of_row;
    const int channel = step % steps_of_row * kStep;
    copy_box(stage, maps.left, full, channel, work.row, batch);
    copy_box(right_tile, maps.right, full, channel, work.column, batch);
    return;
  }
  const int at = work.first + step * kStep;
  const bool on_diagonal = p.lower && at >= work.row && at < work.row + kRows;
  if constexpr (kKind == Kind::kForward) {
    if (on_diagonal)
      copy_box(stage, maps.diagonal, full, at - work.row, work.row, 0);
    else
      copy_box(stage, maps.left, full, at, work.row, 0);
  } else {
    for (int part = 0; part < kRows / 64; ++part) {
      if (on_diagonal)
        copy_box(stage + part * kBox, maps.diagonal, full, part * 64, at, 0);
      else
        copy_box(stage + part * kBox, maps.left, full, work.row + part * 64, at, 0);
    }
  }
  for (int part = 0; part < kColumns / 64; ++part)
    copy_box(right_tile + part * kBox, maps.right, full, work.column + part * 64, at, work.batch);
}

/// One step's product onto `sum`, of 64 rows.
template <Kind kKind, int kColumns>
__device__ void multiply(float (&sum)[kColumns / 2], const char* stage, int group) {
  constexpr int kTransposedLeft = kKind == Kind::kInput;
  constexpr int kTransposedRight = kKind != Kind::kWeight;
  constexpr int kAlongRows = 16 * 128;  // 16 of the reduced dimension
  constexpr int kAlongColumns = 16 * 2;
  const std::uint64_t left = hopper::tile_descriptor(stage + group * kBox, kBox);
  const std::uint64_t right = hopper::tile_descriptor(stage + Tile<kColumns>::kLeft, kBox);
#pragma unroll
  for (int k = 0; k < kStep / 16; ++k) {
    hopper::wgmma<kTransposedLeft, kTransposedRight>(
        sum, hopper::advanced(left, k * (kTransposedLeft ? kAlongRows : kAlongColumns)),
        hopper::advanced(right, k * (kTransposedRight ? kAlongRows : kAlongColumns)));
  }
}

__device__ unsigned pack(float low, float high) {
  const __nv_bfloat162 both = __floats2bfloat162_rn(low, high);
  return *reinterpret_cast<const unsigned*>(&both);
}
__device__ float2 unpack(unsigned both) {
  return __bfloat1622float2(*reinterpret_cast<const __nv_bfloat162*>(&both));
}

/// Four lanes that hold two columns each of four groups of eight -> each lane all eight columns of one group:
/// lane t's result k is lane k's value t.
__device__ uint4 gather_columns(const unsigned (&mine)[4], int lane) {
  const bool odd = lane & 1;
  const bool upper = lane & 2;
  unsigned half[2]
               [2];  // [group / 2][source lane's lowest bit], of the groups whose lowest bit is this lane's
#pragma unroll
  for (int pair = 0; pair < 2; ++pair) {
    const unsigned kept = odd ? mine[2 * pair + 1] : mine[2 * pair];
    const unsigned got = __shfl_xor_sync(0xffffffffu, odd ? mine[2 * pair] : mine[2 * pair + 1], 1);
    half[pair][0] = odd ? got : kept;
    half[pair][1] = odd ? kept : got;
  }
  unsigned low[2];
  unsigned high[2];
#pragma unroll
  for (int bit = 0; bit < 2; ++bit) {
    const unsigned kept = upper ? half[1][bit] : half[0][bit];
    const unsigned got = __shfl_xor_sync(0xffffffffu, upper ? half[0][bit] : half[1][bit], 2);
    low[bit] = upper ? got : kept;
    high[bit] = upper ? kept : got;
  }
  return {low[0], low[1], high[0], high[1]};
}

/// Where a stage holds eight columns of the bypass: rows of 128 bytes, swizzled, 64 columns a box.
__device__ uint4 bypass_columns(const char* stage, int row, int column) {
  const int swizzled = (column % 64 / 8) ^ (row % 8);
  return *reinterpret_cast<const uint4*>(stage + column / 64 * 2 * kBox + row * 128 + swizzled * 16);
}

__device__ unsigned gated(unsigned bypass, unsigned mixed) {
  const float2 u = unpack(bypass);
  const float2 s = unpack(mixed);
  return pack(gelu_fast(u.x).value * s.x, gelu_fast(u.y).value * s.y);
}

/// Writes 128 columns of the tile from `first_column` on, eight a thread at a time; kForward adds the bias
/// first and gates by the bypass in `stage`.
template <Kind kKind, int kColumns>
__device__ void write_product(const float (&sum)[kColumns / 2], int first_column, const Problem& p,
                              const Work& work, int row_of_tile, const char* stage) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
#pragma unroll
  for (int below = 0; below < 2; ++below) {
    const int local_row = row_of_tile + lane / 4 + 8 * below;
    const int row = work.row + local_row;
    const bool inside = row < p.positions;
    const float shift = kKind == Kind::kForward && inside ? __bfloat162float(p.bias[row]) : 0.0f;
    const std::int64_t of_all = static_cast<std::int64_t>(work.batch) * p.positions + row;
#pragma unroll
    for (int group = 0; group < 128 / 32; ++group) {
      unsigned mine[4];
#pragma unroll
      for (int part = 0; part < 4; ++part) {
        const int at = (first_column / 8 + group * 4 + part) * 4 + 2 * below;
        mine[part] = pack(sum[at] + shift, sum[at + 1] + shift);
      }
      const uint4 columns = gather_columns(mine, lane);
      const int local_column = group * 32 + lane % 4 * 8;
      const int column = work.column + first_column + local_column;
      if (!inside || column >= p.width) continue;
      const std::int64_t to = of_all * p.width + column;
      if constexpr (kKind == Kind::kForward) {
        const uint4 u = bypass_columns(stage, local_row, local_column);
        if (p.mixed != nullptr) *reinterpret_cast<uint4*>(p.mixed + to) = columns;
        *reinterpret_cast<uint4*>(p.out + to) = {gated(u.x, columns.x), gated(u.y, columns.y),
                                                 gated(u.z, columns.z), gated(u.w, columns.w)};
      } else {
        *reinterpret_cast<uint4*>(p.out + to) = columns;
      }
    }
  }
}

/// Adds without waiting for what is there; nobody else adds to that element, so sums are the same on every
/// run.
__device__ void add_element(const Problem& p, int row, int column, float value) {
  if (row < p.positions && column < p.positions && (!p.lower || column <= row))
    atomicAdd(p.sum + row * p.sum_stride + column, value);
}

template <int kColumns>
__device__ void write_weight(const float (&sum)[kColumns / 2], const Problem& p, const Work& work, int tile,
                             int row_of_tile) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
#pragma unroll
  for (int below = 0; below < 2; ++below) {
    const int row = row_of_tile + lane / 4 + 8 * below;
#pragma unroll
    for (int group = 0; group < kColumns / 8; ++group) {
      const int column = group * 8 + lane % 4 * 2;
      const float2 values = {sum[group * 4 + 2 * below], sum[group * 4 + 2 * below + 1]};
      if (p.splits > 1) {
        const std::int64_t at = (static_cast<std::int64_t>(tile) * kRows + row) * kColumns + column;
        *reinterpret_cast<float2*>(p.partials + at) = values;
      } else if (work.row + row < p.positions && work.column + column + 1 < p.positions &&
                 (!p.lower || work.column + column + 1 <= work.row + row)) {
        atomicAdd(reinterpret_cast<float2*>(p.sum + (work.row + row) * p.sum_stride + work.column + column),
                  values);
      } else {
        add_element(p, work.row + row, work.column + column, values.x);
        add_element(p, work.row + row, work.column + column + 1, values.y);
      }
    }
  }
}

/// The stages in shared memory, used in turn by the warp that fills them and the warps that empty them, each
/// with a place of its own.
template <int kColumns>
struct Ring {
  char* stages;
  std::uint64_t* full;
  std::uint64_t* empty;
  int stage = 0;
  int phase = 0;

  __device__ char* data() const { return stages + stage * Tile<kColumns>::kStage; }
  __device__ void next() {
    stage = stage + 1 == Tile<kColumns>::kStages ? 0 : stage + 1;
    phase ^= stage == 0;
  }
  /// Waits until this stage may be filled with `bytes`.
  __device__ void begin_fill(int bytes) const {
    hopper::barrier_wait(empty + stage, phase ^ 1);
    hopper::barrier_expect(full + stage, bytes);
  }
  __device__ void wait_full() const { hopper::barrier_wait(full + stage, phase); }
  /// By every warp that has read that stage.
  __device__ void release(int which) const {
    if (threadIdx.x % 32 == 0) hopper::barrier_arrive(empty + which);
  }
};

/// Tiles go round by round, every other round backwards: a block that has got a large one gets a small one
/// next.
__device__ int tile_of_round(int round) {
  const int blocks = static_cast<int>(gridDim.x);
  const int block = static_cast<int>(blockIdx.x);
  return round * blocks + (round % 2 == 0 ? block : blocks - 1 - block);
}

template <Kind kKind, int kColumns>
__device__ void fill(const Maps& maps, const Problem& p, Ring<kColumns> ring) {
  for (int round = 0; round * static_cast<int>(gridDim.x) < p.tiles; ++round) {
    const int tile = tile_of_round(round);
    if (tile >= p.tiles) continue;
    const Work work = work_of<kKind, kColumns>(p, tile);
    for (int step = 0; step < work.steps; ++step, ring.next()) {
      ring.begin_fill(Tile<kColumns>::kStage);
      load_step<kKind, kColumns>(maps, p, work, step, ring.data(), ring.full + ring.stage);
    }
    if constexpr (kKind == Kind::kForward) {
      for (int part = 0; part < kColumns / 128; ++part, ring.next()) {
        ring.begin_fill(4 * kBox);
        for (int half = 0; half < 2; ++half)
          copy_box(ring.data() + half * 2 * kBox, maps.bypass, ring.full + ring.stage,
                   work.column + part * 128 + half * 64, work.row, work.batch);
      }
    }
  }
}

template <Kind kKind, int kColumns>
__device__ void consume(const Problem& p, Ring<kColumns> ring) {
  const int group = static_cast<int>(threadIdx.x) / 128;
  const int row_of_tile = group * 64 + static_cast<int>(threadIdx.x) % 128 / 32 * 16;
  for (int round = 0; round * static_cast<int>(gridDim.x) < p.tiles; ++round) {
    const int tile = tile_of_round(round);
    if (tile >= p.tiles) continue;
    const Work work = work_of<kKind, kColumns>(p, tile);
    float sum[kColumns / 2];
#pragma unroll
    for (int i = 0; i < kColumns / 2; ++i) sum[i] = 0;
    int before = -1;
    for (int step = 0; step < work.steps; ++step, ring.next()) {
      ring.wait_full();
      hopper::wgmma_fence();
      multiply<kKind, kColumns>(sum, ring.data(), group);
      hopper::wgmma_commit();
      hopper::wgmma_wait<1>();  // the step before has been read
      if (before >= 0) ring.release(before);
      before = ring.stage;
    }
    hopper::wgmma_wait<0>();
    ring.release(before);
#pragma unroll
    for (int i = 0; i < kColumns / 2; ++i) asm volatile("" : "+f"(sum[i])::"memory");
    if constexpr (kKind == Kind::kWeight) {
      write_weight<kColumns>(sum, p, work, tile, row_of_tile);
    } else {
#pragma unroll
      for (int part = 0; part < kColumns / 128; ++part) {
        if constexpr (kKind == Kind::kForward) ring.wait_full();
        write_product<kKind, kColumns>(sum, part * 128, p, work, row_of_tile, ring.data());
        if constexpr (kKind == Kind::kForward) {
          __syncwarp();
          ring.release(ring.stage);
          ring.next();
        }
      }
    }
  }
}

template <Kind kKind, int kColumns>
__global__ void __launch_bounds__(kThreads, Tile<kColumns>::kBlocks)
    spatial_product(const __grid_constant__ Maps maps, const __grid_constant__ Problem p) {
  using Sizes = Tile<kColumns>;
  extern __shared__ char unaligned[];
  __shared__ std::uint64_t full[Sizes::kStages];
  __shared__ std::uint64_t empty[Sizes::kStages];
  char* const stages = unaligned + (1024 - hopper::shared_address(unaligned) % 1024) % 1024;
  if (threadIdx.x == 0) {
    for (int stage = 0; stage < Sizes::kStages; ++stage) {
      hopper::barrier_init(full + stage, 1);
      hopper::barrier_init(empty + stage, kConsumers / 32);
    }
    hopper::barrier_init_done();
  }
  __syncthreads();
  const Ring<kColumns> ring{stages, full, empty};
  if (threadIdx.x < kConsumers)
    consume<kKind, kColumns>(p, ring);
  else if (threadIdx.x == kConsumers)
    fill<kKind, kColumns>(maps, p, ring);
}

}  // namespace sluice::kernels::launch::spatial
