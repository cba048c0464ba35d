#include <ATen/Version.h>

#include <string>

#include "trainer/kernels/host_rows.h"

namespace sluice::kernels::host {

const RowLoops* row_loops() {
  static const RowLoops* const loops = [] {
    const std::string instructions = at::get_cpu_capability();
    if (instructions == "AVX512") return &row_loops_avx512();
    return instructions == "AVX2" ? &row_loops_avx2() : nullptr;
  }();
  return loops;
}

}  // namespace sluice::kernels::host
