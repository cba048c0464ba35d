#pragma once

#include <ATen/core/Tensor.h>

#include <array>
#include <cstdint>
#include <vector>

#include "trainer/model/parameters.h"

namespace sluice::model {

/// The initial values of one parameter, of which every part can be drawn by itself: a pure function of (spec,
/// seed). The draws are those of LibTorch's normal_ and uniform_ in double with a generator of the
/// parameter's own, rounded to the type that is asked for; theirs come from one thread, these from all.
class InitialValues {
 public:
  /// Runs through the generator's states, a small part of the work of drawing.
  InitialValues(const ParameterSpec& spec, std::uint64_t seed);

  [[nodiscard]] std::int64_t numel() const { return numel_; }
  static constexpr std::int64_t kBlock = 79872;  ///< whole states of the generator, and groups of normal_

  /// Elements [begin, begin + into.numel()): from a multiple of kBlock to another one, or to the end. `into`:
  /// flat, contiguous, on the CPU, float32 or float64. Over all compute threads.
  void fill(std::int64_t begin, const at::Tensor& into) const;

 private:
  using State = std::array<std::uint32_t, 624>;

  template <typename Value>
  void fill_block(std::int64_t begin, std::int64_t count, Value* into) const;
  void draw_end(std::uint64_t seed);

  Initialiser init_;
  std::int64_t numel_;
  std::vector<State> states_;  ///< of the generator before each block
  std::vector<double> end_;    ///< the last elements, which normal_ draws in another way than the others
};

}  // namespace sluice::model
