#include "trainer/model/initial_values.h"

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/Dispatch.h>
#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>
#include <c10/util/Exception.h>
#include <c10/util/MathConstants.h>
#include <xxhash.h>

#include <algorithm>
#include <cmath>
#include <numeric>

namespace sluice::model {
namespace {

using Kind = Initialiser::Kind;
using State = std::array<std::uint32_t, 624>;

constexpr std::int64_t kGroup = 16;  ///< numbers that normal_ transforms together
constexpr std::int64_t kStateDraws = 312;
constexpr std::int64_t kChunk = 2 * kStateDraws;  ///< the least that is whole states and whole groups

static_assert(kChunk % kGroup == 0 && InitialValues::kBlock % kChunk == 0);

std::uint64_t stream_seed(const Initialiser& init, std::uint64_t seed) {
  return XXH3_64bits_withSeed(init.draw_name.data(), init.draw_name.size(), seed);
}

bool is_drawn(Kind kind) { return kind == Kind::kNormal || kind == Kind::kUniform; }

/// MT19937 (Matsumoto and Nishimura 1998), a whole state at a time: the loops become vector code.
State first_state(std::uint32_t seed) {
  State state;
  state[0] = seed;
  for (std::uint32_t i = 1; i < state.size(); ++i)
    state[i] = 1812433253U * (state[i - 1] ^ (state[i - 1] >> 30U)) + i;
  return state;
}

void advance(State& state) {
  constexpr std::size_t kWords = 624;
  constexpr std::size_t kMiddle = 397;
  constexpr std::size_t kBehind = kWords - kMiddle;
  const auto twist = [](std::uint32_t high, std::uint32_t low) {
    return (((high & 0x80000000U) | (low & 0x7fffffffU)) >> 1U) ^ ((0U - (low & 1U)) & 0x9908b0dfU);
  };
  std::uint32_t* const s = state.data();
  for (std::size_t i = 0; i < kBehind; ++i) s[i] = s[i + kMiddle] ^ twist(s[i], s[i + 1]);
  for (std::size_t i = kBehind; i + 1 < kWords; ++i) s[i] = s[i - kBehind] ^ twist(s[i], s[i + 1]);
  s[kWords - 1] = s[kMiddle - 1] ^ twist(s[kWords - 1], s[0]);
}

std::uint64_t temper(std::uint32_t y) {
  y ^= y >> 11U;
  y ^= (y << 7U) & 0x9d2c5680U;
  y ^= (y << 15U) & 0xefc60000U;
  return y ^ (y >> 18U);
}

/// The next kChunk numbers in [0, 1), of 53 bits each.
void draw_chunk(State& state, double* to) {
  constexpr double kUnit = 1.0 / static_cast<double>(std::int64_t{1} << 53);
  constexpr std::uint64_t kMask = (std::uint64_t{1} << 53U) - 1;
  for (int half = 0; half < 2; ++half) {
    advance(state);
    for (std::size_t i = 0; i < kStateDraws; ++i) {
      const std::uint64_t bits = (temper(state[2 * i]) << 32U) | temper(state[2 * i + 1]);
      *to++ = static_cast<double>(static_cast<std::int64_t>(bits & kMask)) * kUnit;
    }
  }
}

/// Box and Muller's transform of a group: number i goes with number i + 8.
template <typename Value>
void normal_group(const double* uniform, double scale, Value* to) {
  constexpr std::int64_t kHalf = kGroup / 2;
  for (std::int64_t i = 0; i < kHalf; ++i) {
    const double radius = std::sqrt(-2 * std::log(1 - uniform[i]));
    const double angle = 2 * c10::pi<double> * uniform[i + kHalf];
    to[i] = static_cast<Value>(radius * std::cos(angle) * scale + 0.0);
    to[i + kHalf] = static_cast<Value>(radius * std::sin(angle) * scale + 0.0);
  }
}

std::int64_t count_of(const ParameterSpec& spec) {
  return std::accumulate(spec.shape.begin(), spec.shape.end(), std::int64_t{1}, std::multiplies<>());
}

}  // namespace

InitialValues::InitialValues(const ParameterSpec& spec, std::uint64_t seed)
    : init_(spec.init), numel_(count_of(spec)) {
  if (!is_drawn(init_.kind)) return;
  State state = first_state(static_cast<std::uint32_t>(stream_seed(init_, seed)));
  for (std::int64_t begin = 0; begin < numel_; begin += kBlock) {
    states_.push_back(state);
    if (begin + kBlock >= numel_) break;
    for (std::int64_t i = 0; i < kBlock / kStateDraws; ++i) advance(state);
  }
  if (init_.kind == Kind::kNormal && numel_ % kGroup != 0) draw_end(seed);
}

/// normal_ draws a short last group anew, whole, over the elements before it; and fewer elements than a group
/// one by one.
void InitialValues::draw_end(std::uint64_t seed) {
  if (numel_ < kGroup) {
    const at::Tensor all = at::empty({numel_}, at::TensorOptions().dtype(at::kDouble));
    all.normal_(0.0, init_.scale, at::detail::createCPUGenerator(stream_seed(init_, seed)));
    end_.assign(all.const_data_ptr<double>(), all.const_data_ptr<double>() + numel_);
    return;
  }
  State state = states_.back();
  std::vector<double> drawn;
  const auto offset = static_cast<std::size_t>(numel_ % kBlock);
  while (drawn.size() < offset + kGroup) {
    drawn.resize(drawn.size() + kChunk);
    draw_chunk(state, drawn.data() + drawn.size() - kChunk);
  }
  end_.resize(kGroup);
  normal_group(drawn.data() + offset, init_.scale, end_.data());
}

template <typename Value>
void InitialValues::fill_block(std::int64_t begin, std::int64_t count, Value* into) const {
  if (!is_drawn(init_.kind)) {
    std::fill_n(into, count, static_cast<Value>(init_.kind == Kind::kOnes ? 1 : 0));
    return;
  }
  State state = states_[static_cast<std::size_t>(begin / kBlock)];
  std::array<double, kChunk> drawn;
  for (std::int64_t done = 0; done < count; done += kChunk) {
    draw_chunk(state, drawn.data());
    const std::int64_t here = std::min(kChunk, count - done);
    if (init_.kind == Kind::kNormal) {
      for (std::int64_t i = 0; i + kGroup <= here; i += kGroup)
        normal_group(drawn.data() + i, init_.scale, into + done + i);
    } else {
      // One rounding, as LibTorch's own code where the processor multiplies and adds at once.
      for (std::int64_t i = 0; i < here; ++i)
        into[done + i] =
            static_cast<Value>(std::fma(drawn[static_cast<std::size_t>(i)], 2 * init_.scale, -init_.scale));
    }
  }
}

void InitialValues::fill(std::int64_t begin, const at::Tensor& into) const {
  const std::int64_t end = begin + into.numel();
  TORCH_CHECK(begin >= 0 && begin % kBlock == 0 && end <= numel_ && (end % kBlock == 0 || end == numel_),
              "elements [", begin, ", ", end, ") of ", numel_, " in blocks of ", kBlock);
  TORCH_CHECK(into.dim() == 1 && into.is_contiguous() && into.device().is_cpu(),
              "a flat buffer on the CPU is needed, given is one of ", into.sizes(), " on ", into.device());
  AT_DISPATCH_FLOATING_TYPES(into.scalar_type(), "InitialValues::fill", [&] {
    auto* const to = into.mutable_data_ptr<scalar_t>();
    at::parallel_for(0, (into.numel() + kBlock - 1) / kBlock, 1, [&](std::int64_t first, std::int64_t last) {
      for (std::int64_t at = first * kBlock; at < std::min(last * kBlock, into.numel()); at += kBlock)
        fill_block(begin + at, std::min(kBlock, into.numel() - at), to + at);
    });
    const std::int64_t end_begin = numel_ - static_cast<std::int64_t>(end_.size());
    for (std::int64_t i = std::max(begin, end_begin); i < end; ++i)
      to[i - begin] = static_cast<scalar_t>(end_[static_cast<std::size_t>(i - end_begin)]);
  });
}

at::Tensor initial_value(const ParameterSpec& spec, std::uint64_t seed, at::ScalarType dtype) {
  const InitialValues values(spec, seed);
  const at::Tensor flat = at::empty({values.numel()}, at::TensorOptions().dtype(dtype));
  values.fill(0, flat);
  return flat.view(spec.shape);
}

}  // namespace sluice::model
