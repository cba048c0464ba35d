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
        "train.precision: fp64 is computed on the CPU alone; allowed on a GPU are fp32, tf32, bf16 and fp8");
  }
  const bool fp8 = precision == "fp8";
  set_product_precision(precision);
  Placement placement = precision == "fp64" ? at::kDouble : at::kFloat;
  placement.device = device;
  if (precision == "bf16" || fp8) placement.compute = at::kBFloat16;
  if (fp8) placement.products = kernels::ChannelProducts::kFp8;
  return placement;
}

Placement placement_for(const TrainOptions& options, at::Device device) {
  Placement placement = placement_for(options.precision, device);
  if (options.residual_dtype == "bf16") placement.residual = at::kBFloat16;
  return placement;
}

void check_products(const Placement& placement) {
  if (placement.products == kernels::ChannelProducts::kFp8 && !kernels::has_fp8_products(placement.device)) {
    throw InputError(
        "train.precision: fp8 needs a GPU of compute capability 8.9 or more; allowed here are fp32, tf32 and "
        "bf16");
  }
}

}  // namespace sluice::train
