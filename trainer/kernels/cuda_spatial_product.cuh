#pragma once

#include "trainer/kernels/cuda_spatial_write.cuh"

// The kernel of all three spatial products: one warp fills stages, eight empty them, tile after tile.
namespace sluice::kernels::launch::spatial {

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

/// Who computes which tile of a launch: whoever is free takes the next one. So a block whose core an exchange
/// holds at first computes fewer, instead of being waited for.
struct Turns {
  int taken;
  int ended;  ///< blocks that take no more
};
/// All zero between launches. Launches that run side by side use different ones.
__device__ Turns turns[kTurns];

__device__ inline int take_tile(const Problem& p) { return atomicAdd(&turns[p.turns].taken, 1); }

/// After a block's last take_tile().
__device__ inline void end_turns(const Problem& p) {
  __threadfence();  // nobody takes any more once all have ended
  Turns& mine = turns[p.turns];
  if (atomicAdd(&mine.ended, 1) + 1 < static_cast<int>(gridDim.x)) return;
  mine.taken = 0;
  mine.ended = 0;
}

/// The tiles of a block on their way from the warp that takes them to those that multiply. Each side has a
/// place of its own.
struct Orders {
  static constexpr int kPlaces = 2;
  int* tiles;
  std::uint64_t* full;
  std::uint64_t* empty;
  int turn = 0;

  __device__ int place() const { return turn % kPlaces; }
  __device__ int parity() const { return turn / kPlaces % 2; }
  __device__ void put(int tile) {
    hopper::barrier_wait(empty + place(), parity() ^ 1);
    *const_cast<volatile int*>(tiles + place()) = tile;
    hopper::barrier_arrive(full + place());
    ++turn;
  }
  __device__ int get() {
    hopper::barrier_wait(full + place(), parity());
    const int tile = *const_cast<volatile int*>(tiles + place());
    __syncwarp();
    if (threadIdx.x % 32 == 0) hopper::barrier_arrive(empty + place());
    ++turn;
    return tile;
  }
};

template <Kind kKind, int kColumns, Parts kParts>
__device__ void fill(const Maps& maps, const Problem& p, Ring<kColumns> ring, Orders orders, int tile) {
  for (int left = p.block_tiles;; --left) {
    orders.put(tile);
    if (tile >= p.tiles) return end_turns(p);
    const Work work = work_of<kKind, kColumns, kParts>(p, tile);
    if constexpr (kKind == Kind::kWeight) {
      for (int step = 0; step < work.steps; ++step, ring.next()) {
        ring.begin_fill(Tile<kColumns>::kStage);
        load_channels<kColumns>(maps, p, work, step, ring.data(), ring.full + ring.stage);
      }
    } else {
      const SpatialStrips& inputs = kKind == Kind::kInput ? p.own : p.seen;
      for (int strip = 0; strip < strip_count<kParts>(inputs); ++strip) {
        const SpatialStrip from = strip_at<kParts>(inputs, strip);
        const Reach all = reach<kKind>(p, work, from);
        for (int at = all.first; at < all.end; at += kStep, ring.next()) {
          ring.begin_fill(Tile<kColumns>::kStage);
          load_positions<kKind, kColumns>(maps, p, work, from, at, ring.data(), ring.full + ring.stage);
        }
      }
    }
    if (has_companion<kKind, kParts>(work)) {
      for (int part = 0; part < kColumns / 128; ++part, ring.next()) {
        ring.begin_fill(4 * kBox);
        for (int half = 0; half < 2; ++half)
          copy_box(ring.data() + half * 2 * kBox, maps.companion, ring.full + ring.stage,
                   work.column + part * 128 + half * 64, work.row, work.batch);
      }
    }
    tile = left == 1 ? p.tiles : take_tile(p);  // known while the stages filled last are multiplied
  }
}

template <Kind kKind, int kColumns, Parts kParts>
__device__ void consume(const Problem& p, Ring<kColumns> ring, Orders orders) {
  const int group = static_cast<int>(threadIdx.x) / 128;
  const int row_of_tile = group * 64 + static_cast<int>(threadIdx.x) % 128 / 32 * 16;
  for (int tile = orders.get(); tile < p.tiles; tile = orders.get()) {
    const Work work = work_of<kKind, kColumns, kParts>(p, tile);
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
    if (before >= 0) ring.release(before);
#pragma unroll
    for (int i = 0; i < kColumns / 2; ++i) asm volatile("" : "+f"(sum[i])::"memory");
    if constexpr (kKind == Kind::kWeight) {
      write_weight<kColumns>(sum, p, work, tile, row_of_tile);
    } else {
#pragma unroll
      for (int part = 0; part < kColumns / 128; ++part) {
        const bool waits = has_companion<kKind, kParts>(work);
        if (waits) ring.wait_full();
        write_product<kKind, kColumns, kParts>(sum, part * 128, p, work, row_of_tile, ring.data());
        if (waits) {
          __syncwarp();
          ring.release(ring.stage);
          ring.next();
        }
      }
    }
  }
}

template <Kind kKind, int kColumns, Parts kParts>
__global__ void __launch_bounds__(kThreads, Tile<kColumns>::kBlocks)
    spatial_product(const __grid_constant__ Maps maps, const __grid_constant__ Problem p) {
  using Sizes = Tile<kColumns>;
  extern __shared__ char unaligned[];
  __shared__ std::uint64_t full[Sizes::kStages];
  __shared__ std::uint64_t empty[Sizes::kStages];
  __shared__ std::uint64_t ordered[Orders::kPlaces];
  __shared__ std::uint64_t read[Orders::kPlaces];
  __shared__ int tiles[Orders::kPlaces];
  const int first = threadIdx.x == kConsumers ? take_tile(p) : 0;
  char* const stages = unaligned + (1024 - hopper::shared_address(unaligned) % 1024) % 1024;
  if (threadIdx.x == 0) {
    for (int stage = 0; stage < Sizes::kStages; ++stage) {
      hopper::barrier_init(full + stage, 1);
      hopper::barrier_init(empty + stage, kConsumers / 32);
    }
    for (int place = 0; place < Orders::kPlaces; ++place) {
      hopper::barrier_init(ordered + place, 1);
      hopper::barrier_init(read + place, kConsumers / 32);
    }
    hopper::barrier_init_done();
  }
  __syncthreads();
  const Ring<kColumns> ring{stages, full, empty};
  const Orders orders{tiles, ordered, read};
  if (threadIdx.x < kConsumers)
    consume<kKind, kColumns, kParts>(p, ring, orders);
  else if (threadIdx.x == kConsumers)
    fill<kKind, kColumns, kParts>(maps, p, ring, orders, first);
}

}  // namespace sluice::kernels::launch::spatial
