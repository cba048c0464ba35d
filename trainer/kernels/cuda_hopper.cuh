#pragma once

#include <cuda.h>

#include <cstdint>

// The instructions of sm_90a that a product is made of (PTX ISA 9.0: mbarrier, cp.async.bulk.tensor, wgmma),
// each as one function. Tiles in shared memory are rows of 128 bytes, swizzled by 128 bytes, 1024-byte
// aligned.
namespace sluice::kernels::hopper {

__device__ inline std::uint32_t shared_address(const void* pointer) {
  return static_cast<std::uint32_t>(__cvta_generic_to_shared(pointer));
}

// A barrier in shared memory counts arrivals and bytes; a phase ends when both are complete.

__device__ inline void barrier_init(std::uint64_t* barrier, int arrivals) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(shared_address(barrier)), "r"(arrivals));
}
/// Makes the barriers known to the copy engine; then __syncthreads.
__device__ inline void barrier_init_done() {
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
  asm volatile("fence.proxy.async;" ::: "memory");
}
__device__ inline void barrier_arrive(std::uint64_t* barrier) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(shared_address(barrier)) : "memory");
}
__device__ inline void barrier_expect(std::uint64_t* barrier, int bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(shared_address(barrier)),
               "r"(bytes)
               : "memory");
}
/// Returns when the phase of this parity has ended.
__device__ inline void barrier_wait(std::uint64_t* barrier, int parity) {
  asm volatile(
      "{ .reg .pred done; again: mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1; "
      "@!done bra again; }" ::"r"(shared_address(barrier)),
      "r"(parity)
      : "memory");
}

/// A box of a tensor, at these coordinates (innermost first), on its way to shared memory; what lies outside
/// the tensor comes as zero.
__device__ inline void copy_box(void* to, const CUtensorMap& map, std::uint64_t* barrier, int x, int y,
                                int z) {
  asm volatile(
      "cp.async.bulk.tensor.3d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%3, %4, %5}], "
      "[%2];" ::"r"(shared_address(to)),
      "l"(&map), "r"(shared_address(barrier)), "r"(x), "r"(y), "r"(z)
      : "memory");
}
/// A tile as wgmma finds it: `next_atom` bytes from 64 columns to the next 64 where rows are of the reduced
/// dimension (MN-major), ignored where columns are (K-major); eight rows are 1024 bytes.
__device__ inline std::uint64_t tile_descriptor(const void* tile, int next_atom) {
  constexpr std::uint64_t kSwizzle128 = std::uint64_t{1} << 62;
  constexpr std::uint64_t kEightRows = std::uint64_t{1024 >> 4} << 32;
  return kSwizzle128 | kEightRows | (static_cast<std::uint64_t>(next_atom >> 4) << 16) |
         ((shared_address(tile) & 0x3ffff) >> 4);
}
/// The same tile, `bytes` further.
__device__ inline std::uint64_t advanced(std::uint64_t descriptor, int bytes) {
  return descriptor + (bytes >> 4);
}

__device__ inline void wgmma_fence() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
__device__ inline void wgmma_commit() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
template <int kPending>
__device__ void wgmma_wait() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(kPending) : "memory");
}

// d [64, 2 x registers of a thread] += A [64, 16] B [16, N] of bfloat16, by four warps. A transposed
// operand is MN-major. Row of register 4j + {0, 1}: 16 warp + lane / 4, column 8j + 2 (lane % 4) + {0, 1}; of
// registers 4j + {2, 3}: eight rows below.
#define SLUICE_FLOATS_4(d, i) "+f"(d[i]), "+f"(d[(i) + 1]), "+f"(d[(i) + 2]), "+f"(d[(i) + 3])
#define SLUICE_FLOATS_16(d, i)                                                     \
  SLUICE_FLOATS_4(d, i), SLUICE_FLOATS_4(d, (i) + 4), SLUICE_FLOATS_4(d, (i) + 8), \
      SLUICE_FLOATS_4(d, (i) + 12)
#define SLUICE_FLOATS_32(d, i) SLUICE_FLOATS_16(d, i), SLUICE_FLOATS_16(d, (i) + 16)
#define SLUICE_FLOATS_64(d) SLUICE_FLOATS_32(d, 0), SLUICE_FLOATS_32(d, 32)
#define SLUICE_FLOATS_128(d) SLUICE_FLOATS_64(d), SLUICE_FLOATS_32(d, 64), SLUICE_FLOATS_32(d, 96)

template <int kTransposedA, int kTransposedB>
__device__ void wgmma(float (&d)[64], std::uint64_t a, std::uint64_t b) {
  asm volatile(
      "wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 "
      "{%0, %1, %2, %3, %4, %5, %6, %7, "
      " %8, %9, %10, %11, %12, %13, %14, %15, "
      " %16, %17, %18, %19, %20, %21, %22, %23, "
      " %24, %25, %26, %27, %28, %29, %30, %31, "
      " %32, %33, %34, %35, %36, %37, %38, %39, "
      " %40, %41, %42, %43, %44, %45, %46, %47, "
      " %48, %49, %50, %51, %52, %53, %54, %55, "
      " %56, %57, %58, %59, %60, %61, %62, %63}, "
      "%64, %65, 1, 1, 1, %66, %67;"
      : SLUICE_FLOATS_64(d)
      : "l"(a), "l"(b), "n"(kTransposedA), "n"(kTransposedB));
}

template <int kTransposedA, int kTransposedB>
__device__ void wgmma(float (&d)[128], std::uint64_t a, std::uint64_t b) {
  asm volatile(
      "wgmma.mma_async.sync.aligned.m64n256k16.f32.bf16.bf16 "
      "{%0, %1, %2, %3, %4, %5, %6, %7, "
      " %8, %9, %10, %11, %12, %13, %14, %15, "
      " %16, %17, %18, %19, %20, %21, %22, %23, "
      " %24, %25, %26, %27, %28, %29, %30, %31, "
      " %32, %33, %34, %35, %36, %37, %38, %39, "
      " %40, %41, %42, %43, %44, %45, %46, %47, "
      " %48, %49, %50, %51, %52, %53, %54, %55, "
      " %56, %57, %58, %59, %60, %61, %62, %63, "
      " %64, %65, %66, %67, %68, %69, %70, %71, "
      " %72, %73, %74, %75, %76, %77, %78, %79, "
      " %80, %81, %82, %83, %84, %85, %86, %87, "
      " %88, %89, %90, %91, %92, %93, %94, %95, "
      " %96, %97, %98, %99, %100, %101, %102, %103, "
      " %104, %105, %106, %107, %108, %109, %110, %111, "
      " %112, %113, %114, %115, %116, %117, %118, %119, "
      " %120, %121, %122, %123, %124, %125, %126, %127}, "
      "%128, %129, 1, 1, 1, %130, %131;"
      : SLUICE_FLOATS_128(d)
      : "l"(a), "l"(b), "n"(kTransposedA), "n"(kTransposedB));
}

#undef SLUICE_FLOATS_128
#undef SLUICE_FLOATS_64
#undef SLUICE_FLOATS_32
#undef SLUICE_FLOATS_16
#undef SLUICE_FLOATS_4

}  // namespace sluice::kernels::hopper
