#include <cstdio>
#include <string>
#include <vector>

#include "trainer/kernels/device_products.h"
#include "trainer/kernels/peak.h"

// fp8_products: the channel products of a block, forward and input gradient, in bf16 and in fp8 (both
// operands' terms adjacent), each by the fastest of cuBLASLt's algorithms: time of one, microseconds.
namespace {

using namespace sluice::kernels;

struct Size {
  const char* name;
  std::int64_t rows, width, expansion;
};

ProductProblem rows_of_terms(ProductKind kind, ProductOperands operands, std::int64_t outer,
                             std::int64_t rows, std::int64_t inner) {
  return {.kind = kind,
          .operands = operands,
          .m = outer,
          .n = rows,
          .k = inner,
          .a_stride = inner,
          .b_stride = inner,
          .d_stride = outer};
}

ProductProblem input_gradient(std::int64_t outer, std::int64_t rows, std::int64_t inner) {
  return {.kind = ProductKind::kInputGradient,
          .m = inner,
          .n = rows,
          .k = outer,
          .a_stride = inner,
          .b_stride = outer,
          .d_stride = inner};
}

void compare(const Size& size, const char* what, const std::vector<ProductProblem>& problems) {
  std::printf("%-8s %-18s", size.name, what);
  double first = 0;
  for (const TunedProduct& one : tune_products(problems, at::Device(at::kCUDA, 0))) {
    if (first == 0) first = one.tuned_s;
    std::printf("  %s%7.1f us %5.0f TFLOP/s",
                one.problem.operands == ProductOperands::kBf16 ? "bf16" : "fp8 ", 1e6 * one.tuned_s,
                1e-12 * one.problem.flops() / one.tuned_s);
  }
  std::printf("\n");
  std::fflush(stdout);
}

void compare(const Size& size) {
  const auto [name, rows, d, f] = size;
  const std::int64_t h = f / 2;
  const auto forward = [&](const char* what, ProductKind kind, std::int64_t outer, std::int64_t inner) {
    compare(size, what,
            {rows_of_terms(kind, ProductOperands::kBf16, outer, rows, inner),
             rows_of_terms(kind, ProductOperands::kE4m3, outer, rows, inner)});
  };
  const auto backward = [&](const char* what, std::int64_t outer, std::int64_t inner) {
    compare(size, what,
            {input_gradient(outer, rows, inner),
             rows_of_terms(ProductKind::kLinear, ProductOperands::kE5m2, inner, rows, outer)});
  };
  forward("expand", ProductKind::kLinearBias, f, d);
  forward("contract", ProductKind::kLinear, d, h);
  backward("expand, input", f, d);
  backward("contract, input", d, h);
}

}  // namespace

int main() {
  std::printf("copy %.2f TB/s\n", 1e-12 * measure_copy(std::int64_t{1} << 30, at::Device(at::kCUDA, 0), 0.3));
  for (const Size& size : {Size{"base", 32768, 512, 3072}, Size{"base16", 8192, 512, 3072},
                           Size{"large", 16384, 768, 3072}, Size{"wide", 16384, 2048, 8192}})
    compare(size);
}
