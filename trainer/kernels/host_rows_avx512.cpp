#include "trainer/kernels/host_rows_internal.h"

namespace sluice::kernels::host {

const RowLoops& row_loops_avx512() { return kLoops; }

}  // namespace sluice::kernels::host
