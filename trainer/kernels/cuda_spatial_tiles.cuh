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

/// Which parts a product is of. One that has none keeps its way to a tile and what writes it free of
/// questions: registers are short there, and a tile of few steps waits for its place.
enum class Parts {
  kNone,    ///< one strip from position and row 0 on, of own rows and of seen ones alike
  kStrips,  ///< any strips
  kSums,    ///< any strips, and output rows have parts of their sums elsewhere
};

constexpr int kRows = static_cast<int>(kSpatialTile);
constexpr int kStep = 64;             // of the reduced dimension, that a stage holds
constexpr int kBox = 64 * kStep * 2;  // bytes of 64 x 64 elements
constexpr int kConsumers = 256;
constexpr int kThreads = kConsumers + 32;
constexpr int kTurns = 64;  // launches that may run side by side

template <int kColumns>
struct Tile {
  static constexpr int kStages = kColumns == 128 ? 3 : 4;
  static constexpr int kBlocks = kColumns == 128 ? 2 : 1;  // of one multiprocessor
  static constexpr int kLeft = kRows / 64 * kBox;
  static constexpr int kStage = kLeft + kColumns / 64 * kBox;
  static constexpr int kShared = kStages * kStage + 1024;  // to align the first
};

struct Problem {
  int width;
  int batch;
  int row_tiles;  // of all strips of the output
  int column_tiles;
  int tiles;        // of the output, over all sequences or parts of the batch
  int block_tiles;  // most that a thread block takes; 0: any number
  int turns;        // which of the counters that blocks take them by
  int splits;       // of the batch, kWeight
  int row_major;    // all sequences' tiles of the same rows follow one another, not all rows of a sequence
  int lower;
  SpatialStrips own;
  SpatialStrips seen;
  int out_rows;  // of each sequence in the output
  const __nv_bfloat16* bias;
  __nv_bfloat16* mixed;
  __nv_bfloat16* out;
  float* sum;
  std::int64_t sum_stride;
  int writes_over;  // sums hold nothing yet, kWeight
  float* partials;
};

struct Maps {
  CUtensorMap left;
  CUtensorMap diagonal;
  CUtensorMap right;
  CUtensorMap companion;  // the bypass, or what is added
};

struct Work {
  int row = 0;       // first of the output tile, among a sequence's rows
  int row_end = 0;   // of its strip
  int position = 0;  // of the first row
  int column = 0;
  int column_end = 0;    // of its strip, kWeight
  int column_row = 0;    // where the first column's values stand, kWeight
  int column_outer = 0;  // likewise
  int batch = 0;         // first of those reduced over, kWeight
  int steps = 0;
  Sum sum = Sum::kWhole;
};

__host__ __device__ inline int tiles_of(int count, int of) { return (count + of - 1) / of; }

template <Parts kParts>
__device__ int strip_count(const SpatialStrips& strips) {
  return kParts == Parts::kNone ? 1 : strips.count;
}
template <Parts kParts>
__device__ SpatialStrip strip_at(const SpatialStrips& strips, int index) {
  if constexpr (kParts == Parts::kNone)
    return {.begin = 0, .count = strips.of[0].count, .row = 0, .outer = 0, .sum = Sum::kWhole};
  return strips.of[index];
}

struct Reach {
  int first = 0;  // positions
  int end = 0;

  __device__ int steps() const { return end > first ? (end - first + kStep - 1) / kStep : 0; }
};

/// Positions of a strip over which a tile's products reduce.
template <Kind kKind>
__device__ Reach reach(const Problem& p, const Work& work, const SpatialStrip& strip) {
  Reach all{strip.begin, strip.begin + strip.count};
  if (p.lower && kKind == Kind::kForward) all.end = min(all.end, work.position + kRows);
  if (p.lower && kKind == Kind::kInput) all.first = max(all.first, work.position);
  return all;
}

/// Tiles with most to do first, and what shares operands close together.
template <Kind kKind, int kColumns, Parts kParts>
__device__ Work product_work(const Problem& p, int index) {
  const SpatialStrips& outputs = kKind == Kind::kInput ? p.seen : p.own;
  const SpatialStrips& inputs = kKind == Kind::kInput ? p.own : p.seen;
  Work work;
  work.column = index % p.column_tiles * kColumns;
  index /= p.column_tiles;
  int tile = p.row_major ? index / p.batch : index % p.row_tiles;
  work.batch = p.row_major ? index % p.batch : index / p.row_tiles;
  if (p.lower && kKind == Kind::kForward) tile = p.row_tiles - 1 - tile;
  int strip = 0;
  if constexpr (kParts != Parts::kNone)
    for (; tile >= tiles_of(outputs.of[strip].count, kRows); ++strip)
      tile -= tiles_of(outputs.of[strip].count, kRows);
  const SpatialStrip output = strip_at<kParts>(outputs, strip);
  work.row = output.row + tile * kRows;
  work.row_end = output.row + output.count;
  work.position = output.begin + tile * kRows;
  work.column_outer = kKind == Kind::kInput ? output.outer : 0;
  work.sum = output.sum;
  for (int i = 0; i < strip_count<kParts>(inputs); ++i)
    work.steps += reach<kKind>(p, work, strip_at<kParts>(inputs, i)).steps();
  return work;
}

/// Column tiles of `seen` that the row tile at `position` has.
template <int kColumns>
__host__ __device__ int column_tiles_of(const SpatialStrip& seen, int position, int lower) {
  int reached = seen.count;
  if (lower && position + kRows - seen.begin < reached) reached = position + kRows - seen.begin;
  return reached > 0 ? tiles_of(reached, kColumns) : 0;
}

/// Bands of row tiles, column by column within a band: tiles that run side by side then share both operands.
/// Every index has its tile, so no loop asks whether it is at its end that need not.
template <int kColumns, Parts kParts>
__device__ Work weight_tile(const Problem& p, int index) {
  constexpr int kBand = 16;
  for (int own = 0;; ++own) {
    const SpatialStrip left = strip_at<kParts>(p.own, own);
    const int rows_of_strip = tiles_of(left.count, kRows);
    for (int first = 0; kParts == Parts::kNone || first < rows_of_strip; first += kBand) {
      const int end = min(first + kBand, rows_of_strip);
      for (int seen = 0; seen < strip_count<kParts>(p.seen); ++seen) {
        const SpatialStrip right = kParts == Parts::kNone ? left : strip_at<kParts>(p.seen, seen);
        const auto columns = [&](int row) {
          return column_tiles_of<kColumns>(right, left.begin + row * kRows, p.lower);
        };
        int count = 0;
        for (int row = first; row < end; ++row) count += columns(row);
        if (index >= count) {
          index -= count;
          continue;
        }
        int column = 0;
        int top = first;  // the first row tile of the band that reaches this column
        for (;; ++column) {
          while (columns(top) <= column) ++top;
          if (index < end - top) break;
          index -= end - top;
        }
        Work work;
        work.row = left.row + (top + index) * kRows;
        work.row_end = left.row + left.count;
        work.position = left.begin + (top + index) * kRows;
        work.column = right.begin + column * kColumns;
        work.column_end = right.begin + right.count;
        work.column_row = right.row + column * kColumns;
        work.column_outer = right.outer;
        return work;
      }
    }
  }
}

template <int kColumns, Parts kParts>
__device__ Work weight_work(const Problem& p, int index) {
  const int of_part = p.tiles / p.splits;
  const int split = index / of_part;
  Work work = weight_tile<kColumns, kParts>(p, index % of_part);
  work.batch = p.batch * split / p.splits;
  work.steps = (p.batch * (split + 1) / p.splits - work.batch) * ((p.width + kStep - 1) / kStep);
  return work;
}

template <Kind kKind, int kColumns, Parts kParts>
__device__ Work work_of(const Problem& p, int tile) {
  if constexpr (kKind == Kind::kWeight) return weight_work<kColumns, kParts>(p, tile);
  return product_work<kKind, kColumns, kParts>(p, tile);
}

/// Asks for both operands' tiles of one step over batch and channels.
template <int kColumns>
__device__ void load_channels(const Maps& maps, const Problem& p, const Work& work, int step, char* stage,
                              std::uint64_t* full) {
  const int steps_of_row = (p.width + kStep - 1) / kStep;
  const int batch = work.batch + step / steps_of_row;
  const int channel = step % steps_of_row * kStep;
  copy_box(stage, maps.left, full, channel, work.row, batch);
  copy_box(stage + Tile<kColumns>::kLeft, maps.right, full, channel, work.column_row,
           work.column_outer + batch);
}

/// Asks for both operands' tiles of one step over positions, from `at` on, of strip `from`.
template <Kind kKind, int kColumns>
__device__ void load_positions(const Maps& maps, const Problem& p, const Work& work, const SpatialStrip& from,
                               int at, char* stage, std::uint64_t* full) {
  const bool on_diagonal = p.lower && at >= work.position && at < work.position + kRows;
  const int row = from.row + at - from.begin;
  if constexpr (kKind == Kind::kForward) {
    if (on_diagonal)
      copy_box(stage, maps.diagonal, full, at - work.position, work.row, 0);
    else
      copy_box(stage, maps.left, full, at, work.row, 0);
  } else {
    for (int part = 0; part < kRows / 64; ++part) {
      if (on_diagonal)
        copy_box(stage + part * kBox, maps.diagonal, full, part * 64, row, 0);
      else
        copy_box(stage + part * kBox, maps.left, full, work.position + part * 64, row, 0);
    }
  }
  for (int part = 0; part < kColumns / 64; ++part)
    copy_box(stage + Tile<kColumns>::kLeft + part * kBox, maps.right, full, work.column + part * 64, row,
             from.outer + work.batch);
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
