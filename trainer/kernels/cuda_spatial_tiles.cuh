#pragma once

#include <cuda_bf16.h>

#include "trainer/kernels/cuda_hopper.cuh"
#include "trainer/kernels/cuda_spatial_launch.h"

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

}  // namespace sluice::kernels::launch::spatial
