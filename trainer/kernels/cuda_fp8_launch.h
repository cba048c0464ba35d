#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

// Launchers of fp8.cu, as cuda_launch.h says. What they do: fp8_products.h.
namespace sluice::kernels::launch {

enum class Fp8 { kE4m3, kE5m2 };

inline constexpr int kFp8Elements = 16;  ///< numbers of elements are multiples of it, addresses of its bytes
inline constexpr int kFp8Partials = 528;

/// partials [kFp8Partials]: the largest magnitudes of shares of x [elements] bfloat16, as bits; NaN is larger
/// than any.
void largest_magnitudes(const void* x, std::int64_t elements, unsigned* partials, cudaStream_t stream);

/// to [elements] = x 2^e, rounded, e the largest for which all of x stay in range; unit[0] = 2^-e, NaN if an
/// x is not finite.
void quantise(const void* x, std::int64_t elements, const unsigned* partials, Fp8 format, void* to,
              float* unit, cudaStream_t stream);

/// The transpose of x [rows, columns] likewise, both multiples of kFp8Elements, in e4m3.
void quantise_transposed(const void* x, std::int64_t rows, std::int64_t columns, const unsigned* partials,
                         void* to, float* unit, cudaStream_t stream);

}  // namespace sluice::kernels::launch
