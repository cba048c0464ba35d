#pragma once

namespace sluice::kernels {

enum class Mixing {
  kCausal,  ///< position i sees positions j <= i: W's upper triangle is never read
  kFull,    ///< every position sees all T
};

}  // namespace sluice::kernels
