#include "dataio/order.h"

#include <algorithm>
#include <bit>
#include <stdexcept>
#include <string>

// The arithmetic here is a file format: a run that resumes, or a ledger that is read, relies on it
// (dataio/README.md).
namespace sluice::dataio {
namespace {

constexpr std::uint64_t kGolden = 0x9e3779b97f4a7c15;

/// Finaliser of SplitMix64 (Steele, Lea, Flood 2014; Stafford's variant 13): each input bit flips half of the
/// output bits.
constexpr std::uint64_t mix(std::uint64_t x) {
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
  x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
  return x ^ (x >> 31);
}

/// One key for each (seed, epoch); the two must not commute.
constexpr std::uint64_t epoch_key(std::uint64_t seed, std::uint64_t epoch) {
  return mix(mix(seed + kGolden) + mix(epoch ^ 0xd1b54a32d192ed03));
}

/// A bijection of [0, 2^(left_bits + right_bits)): a Feistel network of six rounds keyed by `key`, whose
/// halves may differ by a bit.
std::uint64_t feistel(std::uint64_t x, std::uint64_t key, int left_bits, int right_bits) {
  constexpr int kPairsOfRounds = 3;
  std::uint64_t left = x >> right_bits;
  std::uint64_t right = x & ((std::uint64_t{1} << right_bits) - 1);
  for (int pair = 0; pair < kPairsOfRounds; ++pair) {
    key += kGolden;
    left ^= mix(right + key) >> (64 - left_bits);
    key += kGolden;
    right ^= mix(left + key) >> (64 - right_bits);
  }
  return (left << right_bits) | right;
}

/// A keyed bijection of [0, count): the network's domain is the next power of two, and what falls outside
/// walks on along its cycle, less than two steps on average.
std::uint64_t permute(std::uint64_t x, std::uint64_t count, std::uint64_t key) {
  const int bits = std::max(2, static_cast<int>(std::bit_width(count - 1)));
  do {
    x = feistel(x, key, bits - bits / 2, bits / 2);
  } while (x >= count);
  return x;
}

/// Uniform in [0, count) for count < 2^32, from the upper half of a mixed word.
std::int64_t uniform(std::uint64_t word, std::int64_t count) {
  return static_cast<std::int64_t>(((word >> 32) * static_cast<std::uint64_t>(count)) >> 32);
}

}  // namespace

std::int64_t WindowPlan::samples_per_epoch() const {
  return seq_len < 1 || split_tokens <= seq_len ? 0 : (split_tokens - 1) / seq_len;
}

std::int64_t WindowPlan::dropped_tokens() const {
  const auto samples = samples_per_epoch();
  return samples == 0 ? split_tokens : split_tokens - (samples * seq_len + 1);
}

Order::Order(WindowPlan plan, std::uint64_t seed)
    : plan_(plan), seed_(seed), samples_(plan.samples_per_epoch()) {
  if (plan.seq_len < 1 || plan.seq_len >= (std::int64_t{1} << 32)) {
    throw std::invalid_argument("Order: sequence length " + std::to_string(plan.seq_len) +
                                ", allowed 1 to 2^32 - 1");
  }
  if (samples_ == 0) {
    throw std::invalid_argument("Order: the split has " + std::to_string(plan.split_tokens) +
                                " tokens, fewer than one window of " + std::to_string(plan.seq_len + 1) +
                                " (sequence length " + std::to_string(plan.seq_len) + " and one target)");
  }
}

Window Order::window(std::int64_t global_index) const {
  if (global_index < 0) {
    throw std::invalid_argument("Order: sample index " + std::to_string(global_index) + " is negative");
  }
  const auto epoch = static_cast<std::uint64_t>(global_index / samples_);
  const auto position = static_cast<std::uint64_t>(global_index % samples_);
  const auto key = epoch_key(seed_, epoch);
  const auto sample = static_cast<std::int64_t>(permute(position, static_cast<std::uint64_t>(samples_), key));
  auto begin = sample * plan_.seq_len;
  if (plan_.mode == WindowMode::kRandomOffset) {
    const auto room =
        plan_.split_tokens - (begin + plan_.seq_len + 1);  // only the last sample has less than n - 1
    const auto word = mix(key ^ mix(static_cast<std::uint64_t>(sample) + kGolden));
    begin += uniform(word, std::min(plan_.seq_len - 1, room) + 1);
  }
  return {sample, begin, begin + plan_.seq_len + 1};
}

std::int64_t Slicing::micro_batches() const {
  const auto largest_slice = (global_batch + world_size - 1) / world_size;
  return (largest_slice + micro_batch - 1) / micro_batch;
}

SampleRange Slicing::slice(std::int64_t step) const {
  const auto share = global_batch / world_size;
  const auto longer = global_batch % world_size;  // the first ranks take one sample more
  return {step * global_batch + rank * share + std::min(rank, longer), share + (rank < longer ? 1 : 0)};
}

SampleRange Slicing::micro_slice(std::int64_t step, std::int64_t micro) const {
  const auto whole = slice(step);
  const auto skipped = std::min(micro * micro_batch, whole.count);
  return {whole.first + skipped, std::min(micro_batch, whole.count - skipped)};
}

}  // namespace sluice::dataio
