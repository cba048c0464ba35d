#include "trainer/train/placement.h"

#include <ATen/Context.h>
#include <fmt/format.h>

#include "trainer/train/errors.h"

namespace sluice::train {
namespace {

void set_product_precision(const std::string& precision) {
  at::Context& context = at::globalContext();
  context.setFloat32MatmulPrecision(precision == "tf32" ? "high" : "highest");
  context.setAllowBF16ReductionCuBLAS(/*allow_reduced_precision=*/false);
}

}  // namespace

Placement placement_for(const std::string& precision, at::Device device) {
  if (device.is_cpu() && precision != "fp32" && precision != "fp64") {
    throw InputError(
        fmt::format("train.precision: {} needs a GPU; allowed on the CPU are fp32 and fp64", precision));
  }
  if (device.is_cuda() && precision == "fp64") {
    throw InputError(
        "train.precision: fp64 is computed on the CPU alone; allowed on a GPU are fp32, tf32 and bf16");
  }
  set_product_precision(precision);
  Placement placement = precision == "fp64" ? at::kDouble : at::kFloat;
  placement.device = device;
  if (precision == "bf16") placement.compute = at::kBFloat16;
  return placement;
}

}  // namespace sluice::train
