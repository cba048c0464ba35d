#pragma once

#include <cmath>

#include "trainer/kernels/host_device.h"

// GELU x Phi(x) and its slope Phi(x) + x phi(x), with Phi and phi the normal distribution and density, for
// kernels and for the test of the formula on the host, and both of its approximation by tanh. An infinite or
// NaN x gives what ATen gives.
namespace sluice::kernels {

enum class GeluForm {
  kExact,  ///< by the error function
  kTanh,   ///< its approximation by tanh (Hendrycks and Gimpel 2016)
};

struct Gelu {
  float value;
  float slope;
};

SLUICE_HOST_DEVICE inline float fast_exp2(float x) {
#ifdef __CUDA_ARCH__
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
#else
  return std::exp2(x);
#endif
}

SLUICE_HOST_DEVICE inline float fast_reciprocal(float x) {
#ifdef __CUDA_ARCH__
  float y;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
#else
  return 1 / x;
#endif
}

/// Within 1e-6 of both, from one exponential and one reciprocal: for results that are rounded to bfloat16.
/// Abramowitz and Stegun, Handbook of Mathematical Functions, 7.1.26: erfc(z) = (a1 t + ... + a5 t^5)
/// exp(-z^2) with t = 1 / (1 + p z), within 1.5e-7 for z >= 0. Here z = |x| / sqrt(2), and the coefficients
/// are halved.
SLUICE_HOST_DEVICE inline Gelu gelu_fast(float x) {
  constexpr float kP = 0.3275911F * 0.70710678F;
  constexpr float kRootOfHalfLog2E = 0.84932180F;  // exp(-x^2 / 2) = 2^-(this x)^2
  constexpr float kDensity = 0.39894228F;          // 1 / sqrt(2 pi)
  const float t = fast_reciprocal(fmaf(kP, fabsf(x), 1.0F));
  const float root = x * kRootOfHalfLog2E;
  const float bell = fast_exp2(-root * root);
  float tail = fmaf(t, 0.5F * 1.061405429F, 0.5F * -1.453152027F);
  tail = fmaf(t, tail, 0.5F * 1.421413741F);
  tail = fmaf(t, tail, 0.5F * -0.284496736F);
  tail = fmaf(t, tail, 0.5F * 0.254829592F);
  tail = tail * t * bell;
  const float below = x < 0 ? tail : 1 - tail;
  return {x * below, fmaf(x * kDensity, bell, below)};
}

/// To float32's rounding.
SLUICE_HOST_DEVICE inline Gelu gelu_exact(float x) {
  const float below = 0.5F * (1 + erff(x * 0.70710678F));
  return {x * below, fmaf(x * 0.39894228F, expf(-0.5F * x * x), below)};
}

constexpr float kFarSquare =
    400;  ///< the square of an x whose tanh is 1 or -1: a cube of more may be infinite

/// x (1 + tanh(y)) / 2 = x / (1 + exp(-2 y)) with y = sqrt(2 / pi) (x + 0.044715 x^3): one exponential and
/// one reciprocal, within 1e-6 of both for results that are rounded to bfloat16.
SLUICE_HOST_DEVICE inline Gelu gelu_tanh_fast(float x) {
  constexpr float kTwice = 1.5957691F;  // 2 sqrt(2 / pi)
  constexpr float kLog2E = 1.4426950F;
  const float square = fminf(x * x, kFarSquare);
  const float twice = kTwice * fmaf(0.044715F * square, x, x);  // 2 y
  const float share = fast_reciprocal(1 + fast_exp2(-kLog2E * twice));
  const float steepness = kTwice * fmaf(3 * 0.044715F, square, 1.0F);
  return {x * share, fmaf(x * (share * (1 - share)), steepness, share)};
}

/// To float32's rounding.
SLUICE_HOST_DEVICE inline Gelu gelu_tanh_exact(float x) {
  constexpr float kSlope = 0.79788456F;  // sqrt(2 / pi)
  const float square = fminf(x * x, kFarSquare);
  const float bent = tanhf(kSlope * fmaf(0.044715F * square, x, x));
  const float steepness = kSlope * fmaf(3 * 0.044715F, square, 1.0F);
  return {0.5F * x * (1 + bent), 0.5F * fmaf(x * (1 - bent * bent), steepness, 1 + bent)};
}

}  // namespace sluice::kernels
