#pragma once

#include <cstdint>

#include "trainer/kernels/host_device.h"

namespace sluice::kernels {

struct PhiloxWords {
  std::uint32_t at[4];
};

/// Philox4x32-10 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3"): 128 random bits as a
/// pure function of a 128-bit counter and a 64-bit key.
SLUICE_HOST_DEVICE inline PhiloxWords philox(PhiloxWords counter, std::uint64_t key) {
  constexpr std::uint32_t kFirstFactor = 0xD2511F53U, kSecondFactor = 0xCD9E8D57U;
  constexpr std::uint32_t kFirstStep = 0x9E3779B9U, kSecondStep = 0xBB67AE85U;
  auto first_key = static_cast<std::uint32_t>(key);
  auto second_key = static_cast<std::uint32_t>(key >> 32);
  for (int round = 0; round < 10; ++round) {
    const std::uint64_t first = static_cast<std::uint64_t>(kFirstFactor) * counter.at[0];
    const std::uint64_t second = static_cast<std::uint64_t>(kSecondFactor) * counter.at[2];
    counter = {{static_cast<std::uint32_t>(second >> 32) ^ counter.at[1] ^ first_key,
                static_cast<std::uint32_t>(second),
                static_cast<std::uint32_t>(first >> 32) ^ counter.at[3] ^ second_key,
                static_cast<std::uint32_t>(first)}};
    first_key += kFirstStep;
    second_key += kSecondStep;
  }
  return counter;
}

/// The four draws of elements 4 group, ... 4 group + 3 of a sample at one place of the model.
SLUICE_HOST_DEVICE inline PhiloxWords draws_of(std::uint64_t seed, std::uint32_t site, std::uint64_t sample,
                                               std::uint32_t group) {
  return philox({{group, site, static_cast<std::uint32_t>(sample), static_cast<std::uint32_t>(sample >> 32)}},
                seed);
}

}  // namespace sluice::kernels
