#include <algorithm>
#include <atomic>
#include <cmath>
#include <stdexcept>
#include <string>

#include "trainer/kernels/cuda_check.cuh"
#include "trainer/kernels/cuda_spatial_launch.h"
#include "trainer/kernels/cuda_spatial_product.cuh"

namespace sluice::kernels::launch {
namespace {

using spatial::Kind;
using spatial::Parts;
using spatial::Problem;
using spatial::Tile;
using spatial::Work;

constexpr int kRows = static_cast<int>(kSpatialTile);
constexpr int kBoxColumns = 64;

int tiles(std::int64_t count, int of) { return static_cast<int>((count + of - 1) / of); }

using EncodeTiled = decltype(&cuTensorMapEncodeTiled);

EncodeTiled find_encode() {
  void* function = nullptr;
  cudaDriverEntryPointQueryResult result{};
  check_cuda(cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &function, 12000, cudaEnableDefault,
                                              &result),
             "cudaGetDriverEntryPointByVersion");
  if (result != cudaDriverEntryPointSuccess)
    throw std::runtime_error("this driver has no cuTensorMapEncodeTiled");
  return reinterpret_cast<EncodeTiled>(function);
}

/// A bfloat16 tensor [outer, rows, columns], read in boxes of [1, box_rows, 64].
struct Source {
  const void* data = nullptr;
  std::int64_t columns = 0;
  std::int64_t rows = 0;
  std::int64_t row_stride = 0;  // in elements
  std::int64_t outer = 1;
  int box_rows = 64;
};

CUtensorMap make_map(const Source& source) {
  static const EncodeTiled encode = find_encode();
  constexpr std::uint64_t kBytes = 2;
  const auto of = [](std::int64_t value) { return static_cast<std::uint64_t>(value); };
  const cuuint64_t sizes[3] = {of(source.columns), of(source.rows), of(source.outer)};
  const cuuint64_t strides[2] = {kBytes * of(source.row_stride),
                                 kBytes * of(source.row_stride * source.rows)};
  const cuuint32_t box[3] = {kBoxColumns, static_cast<cuuint32_t>(source.box_rows), 1};
  const cuuint32_t every[3] = {1, 1, 1};
  CUtensorMap map;
  const CUresult result =
      encode(&map, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, 3, const_cast<void*>(source.data), sizes, strides, box,
             every, CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
             CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  if (result != CUDA_SUCCESS)
    throw std::runtime_error("cuTensorMapEncodeTiled: error " + std::to_string(static_cast<int>(result)) +
                             " for a tensor of " + std::to_string(source.rows) + " rows of " +
                             std::to_string(source.columns));
  return map;
}

Source weight_source(const void* weight, const SpatialShape& shape, int box_rows) {
  return {weight, shape.positions, shape.own_rows, shape.weight_stride, 1, box_rows};
}
Source diagonal_source(const void* diagonal, const SpatialShape& shape, int box_rows) {
  const std::int64_t rows = static_cast<std::int64_t>(tiles(shape.own_rows, kRows)) * kRows;
  return {diagonal, kRows, rows, kRows, 1, box_rows};
}
Source own_source(const void* values, const SpatialShape& shape, int box_rows) {
  return {values, shape.width, shape.own_rows, shape.width, shape.batch, box_rows};
}
Source seen_source(const void* values, const SpatialShape& shape, int box_rows) {
  return {values, shape.width, shape.seen_rows, shape.width, shape.seen_outer, box_rows};
}

int row_tiles(const SpatialStrips& strips) {
  int count = 0;
  for (int strip = 0; strip < strips.count; ++strip) count += tiles(strips.of[strip].count, kRows);
  return count;
}

Problem problem_of(const SpatialShape& shape) {
  Problem p{};
  p.width = static_cast<int>(shape.width);
  p.batch = static_cast<int>(shape.batch);
  p.splits = 1;
  p.lower = shape.triangle == Triangle::kLower;
  p.own = shape.own;
  p.seen = shape.seen;
  return p;
}

int multiprocessors() {
  static const int count = [] {
    int device = 0;
    int value = 0;
    check_cuda(cudaGetDevice(&device), "cudaGetDevice");
    check_cuda(cudaDeviceGetAttribute(&value, cudaDevAttrMultiProcessorCount, device),
               "cudaDeviceGetAttribute");
    return value;
  }();
  return count;
}

int next_turns() {
  static std::atomic<unsigned> launches{0};
  return static_cast<int>(launches++ % spatial::kTurns);
}

template <Kind kKind, int kColumns, Parts kParts>
void run(const spatial::Maps& maps, Problem problem, int block_tiles, cudaStream_t stream) {
  if (problem.tiles == 0) return;
  problem.block_tiles = block_tiles;
  problem.turns = next_turns();
  constexpr auto kernel = spatial::spatial_product<kKind, kColumns, kParts>;
  constexpr int kShared = Tile<kColumns>::kShared;
  static const bool ready = [&] {
    check_cuda(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, kShared),
               "cudaFuncSetAttribute");
    return true;
  }();
  static_cast<void>(ready);
  int blocks = std::min(problem.tiles, multiprocessors() * Tile<kColumns>::kBlocks);
  if (block_tiles > 0) blocks = std::max(blocks, tiles(problem.tiles, block_tiles));
  kernel<<<static_cast<unsigned>(blocks), spatial::kThreads, kShared, stream>>>(maps, problem);
  check_launch("spatial_product");
}

/// Wide tiles multiply faster; of narrow ones two share a multiprocessor, and one writes while the other
/// multiplies.
int product_columns(const SpatialShape& shape) { return shape.positions <= 1024 ? 128 : 256; }

bool is_one_from_zero(const SpatialStrips& strips) {
  const SpatialStrip& first = strips.of[0];
  return strips.count == 1 && first.begin == 0 && first.row == 0 && first.outer == 0;
}

bool has_other_sums(Kind kind, const Problem& problem, const Source& companion) {
  if (kind != Kind::kForward) return companion.data != nullptr;
  const SpatialStrip* const end = problem.own.of + problem.own.count;
  return std::any_of(problem.own.of, end, [](const SpatialStrip& strip) { return strip.sum != Sum::kWhole; });
}

Parts parts_of(Kind kind, const Problem& problem, const Source& companion) {
  if (has_other_sums(kind, problem, companion)) return Parts::kSums;
  const bool whole = is_one_from_zero(problem.own) && is_one_from_zero(problem.seen) &&
                     problem.own.of[0].count == problem.seen.of[0].count;
  return whole ? Parts::kNone : Parts::kStrips;
}

struct Operands {
  const void* weight;
  const void* diagonal;
  const void* values;
  Source companion;
};

template <Kind kKind, int kColumns>
void run_product(const Operands& a, const SpatialShape& shape, Problem problem, cudaStream_t stream) {
  constexpr std::int64_t kShort =
      2048;  // positions whose values stay in the cache from one row tile to the next
  problem.row_tiles = row_tiles(kKind == Kind::kInput ? shape.seen : shape.own);
  problem.out_rows = static_cast<int>(kKind == Kind::kInput ? shape.seen_rows : shape.own_rows);
  problem.column_tiles = tiles(shape.width, kColumns);
  problem.row_major = shape.positions > kShort;
  problem.tiles = problem.column_tiles * problem.row_tiles * problem.batch;
  constexpr int kBoxRows = kKind == Kind::kForward ? kRows : spatial::kStep;
  spatial::Maps maps;
  maps.left = make_map(weight_source(a.weight, shape, kBoxRows));
  maps.diagonal = problem.lower ? make_map(diagonal_source(a.diagonal, shape, kBoxRows)) : maps.left;
  maps.right = make_map(kKind == Kind::kInput ? own_source(a.values, shape, spatial::kStep)
                                              : seen_source(a.values, shape, spatial::kStep));
  maps.companion = a.companion.data == nullptr ? maps.right : make_map(a.companion);
  switch (parts_of(kKind, problem, a.companion)) {
    case Parts::kNone:
      return run<kKind, kColumns, Parts::kNone>(maps, problem, shape.block_tiles, stream);
    case Parts::kStrips:
      return run<kKind, kColumns, Parts::kStrips>(maps, problem, shape.block_tiles, stream);
    case Parts::kSums:
      return run<kKind, kColumns, Parts::kSums>(maps, problem, shape.block_tiles, stream);
  }
}

template <Kind kKind>
void run_product(const Operands& operands, const SpatialShape& shape, const Problem& problem,
                 cudaStream_t stream) {
  if (product_columns(shape) == 128) return run_product<kKind, 128>(operands, shape, problem, stream);
  run_product<kKind, 256>(operands, shape, problem, stream);
}

struct WeightPlan {
  int columns;
  int splits;
  std::int64_t tiles;  // of the output
};

std::int64_t weight_tiles(const SpatialShape& shape, int columns) {
  const auto column_tiles = columns == 128 ? spatial::column_tiles_of<128> : spatial::column_tiles_of<256>;
  std::int64_t count = 0;
  for (int own = 0; own < shape.own.count; ++own)
    for (int row = 0; row < shape.own.of[own].count; row += kRows)
      for (int seen = 0; seen < shape.seen.count; ++seen)
        count += column_tiles(shape.seen.of[seen], shape.own.of[own].begin + row,
                              shape.triangle == Triangle::kLower);
  return count;
}

/// The tiling and the number of parts of the batch that fill an H100's multiprocessors best: a function of
/// the shape alone, so that sums have the same order everywhere.
WeightPlan weight_plan(const SpatialShape& shape) {
  constexpr double kMultiprocessors = 132;
  constexpr double kRate[2] = {4.4e12, 5.2e12};  // FLOP/s of one, tiles of 128 and of 256 columns
  constexpr double kBytes = 3e12;                // per second, of the partial sums
  WeightPlan best{};
  double least = 0;
  for (const int columns : {128, 256}) {
    const std::int64_t count = weight_tiles(shape, columns);
    for (int splits = 1; splits <= std::min<std::int64_t>(shape.batch, 64); ++splits) {
      const int at_once = columns == 128 ? 2 : 1;
      const double waves = std::ceil(static_cast<double>(count * splits) / (kMultiprocessors * at_once));
      const double sequences = std::ceil(static_cast<double>(shape.batch) / splits);
      const double flops = 2.0 * kRows * columns * sequences * static_cast<double>(shape.width);
      double seconds = waves * at_once * flops / kRate[columns / 256];
      if (splits > 1) seconds += 3 * 4.0 * static_cast<double>(count * splits) * kRows * columns / kBytes;
      if (best.columns != 0 && seconds >= least) continue;
      best = {columns, splits, count};
      least = seconds;
    }
  }
  return best;
}

__global__ void copy_diagonal(const __nv_bfloat16* __restrict__ weight, __nv_bfloat16* __restrict__ diagonal,
                              std::int64_t stride, const __grid_constant__ SpatialStrips own) {
  const int tile = static_cast<int>(blockIdx.x) * kRows;
  const int of_tile = static_cast<int>(blockIdx.y) * 8 + static_cast<int>(threadIdx.y);
  int strip = 0;
  while (strip + 1 < own.count && tile >= own.of[strip + 1].row) ++strip;
  const SpatialStrip& from = own.of[strip];
  const int first = from.begin + tile - from.row;
  const std::int64_t row = tile + of_tile;
  for (int column = static_cast<int>(threadIdx.x); column < kRows; column += 32) {
    const bool below = row < from.row + from.count && column <= of_tile;
    diagonal[row * kRows + column] = below ? weight[row * stride + first + column] : __float2bfloat16_rn(0);
  }
}

constexpr int kAdders = 64;  // thread blocks that share a tile

/// Adds the parts of each tile up, in their order.
template <int kColumns, Parts kParts>
__global__ void add_parts(const __grid_constant__ Problem p) {
  const Work work = spatial::weight_work<kColumns, kParts>(p, static_cast<int>(blockIdx.x));
  const std::int64_t tile = std::int64_t{kRows} * kColumns;
  for (int at = static_cast<int>(blockIdx.y * blockDim.x + threadIdx.x); at < tile;
       at += static_cast<int>(gridDim.y * blockDim.x)) {
    float sum = 0;
#pragma unroll 8
    for (int split = 0; split < p.splits; ++split)
      sum += p.partials[(static_cast<std::int64_t>(split) * gridDim.x + blockIdx.x) * tile + at];
    const int row = at / kColumns;
    const int column = at % kColumns;
    if (spatial::columns_left(p, work, row, column) > 0)
      spatial::put(p, spatial::weight_sum(p, work, row, column), sum);
  }
}

template <int kColumns, Parts kParts>
void run_weight(const SpatialWeight& a, const SpatialShape& shape, const WeightPlan& plan, Problem problem,
                cudaStream_t stream) {
  problem.splits = plan.splits;
  problem.tiles = static_cast<int>(plan.tiles) * plan.splits;
  problem.sum = a.sum;
  problem.sum_stride = shape.weight_stride;
  problem.partials = a.partials;
  problem.writes_over = a.before == Before::kNothing;
  spatial::Maps maps;
  maps.left = make_map(own_source(a.gradient, shape, kRows));
  maps.right = make_map(seen_source(a.input, shape, kColumns));
  maps.diagonal = maps.companion = maps.left;
  run<Kind::kWeight, kColumns, kParts>(maps, problem, shape.block_tiles, stream);
  if (plan.splits == 1 || plan.tiles == 0) return;
  add_parts<kColumns, kParts><<<dim3(static_cast<unsigned>(plan.tiles), kAdders), 256, 0, stream>>>(problem);
  check_launch("add_parts");
}

template <int kColumns>
void run_weight(const SpatialWeight& a, const SpatialShape& shape, const WeightPlan& plan,
                cudaStream_t stream) {
  const Problem problem = problem_of(shape);
  if (parts_of(Kind::kWeight, problem, {}) == Parts::kNone)
    run_weight<kColumns, Parts::kNone>(a, shape, plan, problem, stream);
  else
    run_weight<kColumns, Parts::kStrips>(a, shape, plan, problem, stream);
}

}  // namespace

void spatial_diagonal(const void* weight, const SpatialShape& shape, void* diagonal, cudaStream_t stream) {
  const auto count = static_cast<unsigned>(tiles(shape.own_rows, kRows));
  copy_diagonal<<<dim3(count, kRows / 8), dim3(32, 8), 0, stream>>>(static_cast<const __nv_bfloat16*>(weight),
                                                                    static_cast<__nv_bfloat16*>(diagonal),
                                                                    shape.weight_stride, shape.own);
  check_launch("copy_diagonal");
}

void spatial_forward(const SpatialForward& a, const SpatialShape& shape, cudaStream_t stream) {
  Problem problem = problem_of(shape);
  problem.bias = static_cast<const __nv_bfloat16*>(a.bias);
  problem.mixed = static_cast<__nv_bfloat16*>(a.mixed);
  problem.out = static_cast<__nv_bfloat16*>(a.gated);
  const Source bypass = {a.bypass, shape.width, shape.own_rows, a.bypass_stride, shape.batch, kRows};
  run_product<Kind::kForward>({a.weight, a.diagonal, a.input, bypass}, shape, problem, stream);
}

void spatial_input_gradient(const SpatialInput& a, const SpatialShape& shape, cudaStream_t stream) {
  Problem problem = problem_of(shape);
  problem.out = static_cast<__nv_bfloat16*>(a.input);
  const Source added = {a.added, shape.width, a.added_rows, shape.width, shape.batch, kRows};
  run_product<Kind::kInput>({a.weight, a.diagonal, a.gradient, added}, shape, problem, stream);
}

std::int64_t spatial_partials(const SpatialShape& shape) {
  const WeightPlan plan = weight_plan(shape);
  return plan.splits == 1 ? 0 : plan.splits * plan.tiles * kRows * plan.columns;
}

void spatial_weight_gradient(const SpatialWeight& arguments, const SpatialShape& shape, cudaStream_t stream) {
  const WeightPlan plan = weight_plan(shape);
  if (plan.columns == 128) return run_weight<128>(arguments, shape, plan, stream);
  run_weight<256>(arguments, shape, plan, stream);
}

}  // namespace sluice::kernels::launch
