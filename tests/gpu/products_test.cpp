#include "trainer/kernels/products.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/mm.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <string>
#include <vector>

#include "tests/support/kernel_tensors.h"
#include "trainer/kernels/device_products.h"

// The products of a linear layer through cuBLASLt, against float64 on the GPU, and the choice of algorithms.
namespace sluice::kernels {
namespace {

using tests::gpu;
using tests::same_bits;

constexpr double kBf16Bound = 1.0 / 256;  // of a result rounded once
constexpr double kSumBound = 1e-5;        // of fp32 sums of up to 32k terms

enum class Rows { kDense, kApart, kOdd };  ///< columns alone, a view of wider rows, of rows off 16 bytes

/// Values of variance 1 in bfloat16 on the GPU, rows as told; a pure function of the seed.
at::Tensor matrix(std::int64_t rows, std::int64_t columns, std::uint64_t seed, Rows apart = Rows::kDense) {
  const std::int64_t before = apart == Rows::kApart ? 8 : 0;
  const std::int64_t after = apart == Rows::kDense ? 0 : apart == Rows::kApart ? 16 : 3;
  // Many numbers out of few: the CPU's generator is slow.
  const at::Tensor row = tests::on_gpu(tests::normal({before + columns + after}, seed)).unsqueeze(0);
  const at::Tensor column = tests::on_gpu(tests::normal({rows}, seed + 1)).unsqueeze(1);
  return row.mul(column).mul(977).sin_().mul_(1.4).to(at::kBFloat16).narrow(1, before, columns);
}

double error(const at::Tensor& got, const at::Tensor& exact) {
  return got.to(at::kDouble).sub(exact).norm().item().toDouble() /
         std::max(exact.norm().item().toDouble(), 1e-300);
}

at::Tensor exactly(const at::Tensor& a, const at::Tensor& b) {
  return at::mm(a.to(at::kDouble), b.to(at::kDouble));
}

/// Operands of one linear layer.
struct Layer {
  at::Tensor x, w, bias, dy, before;

  Layer(std::int64_t rows, std::int64_t inputs, std::int64_t outputs, Rows apart = Rows::kDense)
      : x(matrix(rows, inputs, 1, apart)),
        w(matrix(outputs, inputs, 3)),
        bias(matrix(1, outputs, 5).squeeze(0)),
        dy(matrix(rows, outputs, 7, apart)),
        before(matrix(outputs, inputs, 9).to(at::kFloat)) {}

  struct Results {
    at::Tensor plain, biased, wide, dx, wide_dx, sum, over;
    [[nodiscard]] std::vector<at::Tensor> all() const {
      return {plain, biased, wide, dx, wide_dx, sum, over};
    }
  };
  [[nodiscard]] Results run() const {
    const auto wide = x.options().dtype(at::kFloat);
    Results r{linear(x, w, {}),
              linear(x, w, bias),
              at::empty({x.size(0), w.size(0)}, wide),
              linear_input_gradient(dy, w),
              at::empty(x.sizes(), wide),
              before.clone(),
              before.clone()};
    linear_into(r.wide, x, w, {});
    linear_input_gradient_into(r.wide_dx, dy, w);
    add_linear_weight_gradient({r.sum}, dy, x);
    add_linear_weight_gradient({r.over, Before::kNothing}, dy, x);
    return r;
  }
};

class ProductKernels : public tests::KernelsTest {
 protected:
  void SetUp() override {
    tests::KernelsTest::SetUp();
    if (!IsSkipped()) install_products({});
  }
  void TearDown() override { install_products({}); }
};

void expect_equal(const Layer::Results& got, const Layer::Results& want) {
  for (std::size_t i = 0; i < got.all().size(); ++i)
    EXPECT_TRUE(same_bits(got.all()[i], want.all()[i])) << "result " << i;
}

struct Widths {
  std::int64_t inputs, outputs;
};

TEST_F(ProductKernels, AreNearFloat64) {
  double worst_rounded = 0, worst_sum = 0;
  for (const std::int64_t rows : {1, 37, 512, 8192}) {
    for (const auto& [inputs, outputs] :
         {Widths{24, 128}, {128, 24}, {512, 3072}, {1536, 512}, {3072, 128}}) {
      for (const Rows apart : {Rows::kDense, Rows::kApart, Rows::kOdd}) {
        SCOPED_TRACE(::testing::Message() << rows << " rows, " << inputs << " to " << outputs << ", kind "
                                          << static_cast<int>(apart));
        const Layer layer(rows, inputs, outputs, apart);
        const auto got = layer.run();
        const at::Tensor y = exactly(layer.x, layer.w.t());
        const at::Tensor dx = exactly(layer.dy, layer.w);
        const at::Tensor sum = exactly(layer.dy.t(), layer.x);
        const double rounded =
            std::max({error(got.plain, y), error(got.biased, y.add(layer.bias)), error(got.dx, dx)});
        const double summed = std::max({error(got.wide, y), error(got.wide_dx, dx), error(got.over, sum),
                                        error(got.sum, sum.add(layer.before))});
        EXPECT_LE(rounded, kBf16Bound);
        EXPECT_LE(summed, kSumBound);
        worst_rounded = std::max(worst_rounded, rounded);
        worst_sum = std::max(worst_sum, summed);
      }
    }
  }
  std::printf("worst error of results in bf16 %.1e, in fp32 %.1e\n", worst_rounded, worst_sum);
}

TEST_F(ProductKernels, WriteTheirOwnColumnsAlone) {
  const Layer layer(37, 24, 48);
  const at::Tensor room = at::empty({37, 96}, layer.x.options()).fill_(7);
  linear_into(room.narrow(1, 48, 48), layer.x, layer.w, layer.bias);
  EXPECT_TRUE(same_bits(room.narrow(1, 48, 48), linear(layer.x, layer.w, layer.bias)));
  EXPECT_TRUE(room.narrow(1, 0, 48).eq(7).all().item().toBool());
}

TEST_F(ProductKernels, AreRecordedWhereTheLibraryRunsThem) {
  const Layer even(37, 24, 128), odd(37, 24, 128, Rows::kOdd);
  (void)even.run();  // before: not recorded
  std::vector<ProductProblem> problems;
  {
    const ProductRecording recording;
    (void)even.run();
    (void)even.run();
    problems = ProductRecording::problems();
    EXPECT_EQ(problems.size(), 6U);
    (void)odd.run();  // goes through ATen
    EXPECT_EQ(ProductRecording::problems().size(), 6U);
  }
  const Layer other(64, 24, 128);
  (void)other.run();
  EXPECT_EQ(ProductRecording::problems().size(), 6U);
  for (const ProductProblem& problem : problems) std::printf("%s\n", text_of(problem).c_str());
}

TEST_F(ProductKernels, HaveTheSameBitsInAGraph) {
  const Layer layer(512, 512, 1536);
  const auto eager = layer.run();
  parallel::release_cached_memory();
  parallel::DeviceGraph graph;
  Layer::Results captured;
  graph.capture([&](const auto& /*mark*/) { captured = layer.run(); });
  for (int again = 0; again < 3; ++again) {
    graph.replay({});
    expect_equal(captured, eager);
  }
}

/// The problems of `layer`, timed.
ProductTable tuned(const Layer& layer) {
  std::vector<ProductProblem> problems;
  {
    const ProductRecording recording;
    (void)layer.run();
    problems = ProductRecording::problems();
  }
  ProductTable table{.device = "the tests' GPU", .library = product_library(), .algorithms = {}};
  for (const TunedProduct& one : tune_products(problems, gpu())) {
    table.algorithms[text_of(one.problem)] = one.algorithm;
    EXPECT_GE(one.candidates, 1);
    EXPECT_LE(one.tuned_s, one.first_s);
  }
  EXPECT_EQ(table.algorithms.size(), problems.size());
  return table;
}

TEST_F(ProductKernels, TunedOnesDifferByRoundingAloneAndRepeatTheirBits) {
  for (const std::int64_t rows : {37, 8192}) {
    const Layer layer(rows, 512, 3072);
    const auto untuned = layer.run();
    expect_equal(layer.run(), untuned);
    const ProductTable table = tuned(layer);
    install_products(table);
    const auto got = layer.run();
    for (std::size_t i = 0; i < got.all().size(); ++i) {
      const double bound = got.all()[i].scalar_type() == at::kFloat ? kSumBound : kBf16Bound;
      EXPECT_LE(error(got.all()[i], untuned.all()[i].to(at::kDouble)), bound) << "result " << i;
    }
    for (int again = 0; again < 3; ++again) expect_equal(layer.run(), got);

    install_products({});
    expect_equal(layer.run(), untuned);
    install_products(read_table(table_text(table)));
    expect_equal(layer.run(), got);
  }
}

/// What tuning brings for gMLP base, B64.
TEST_F(ProductKernels, TuningOfGmlpBase) {
  constexpr std::int64_t kRows = 64 * 512, kWidth = 512, kFfn = 3072, kHalf = kFfn / 2;
  std::vector<ProductProblem> problems;
  {
    const ProductRecording recording;
    const at::Tensor x = matrix(kRows, kWidth, 1), h = matrix(kRows, kFfn, 2), z = matrix(kRows, kHalf, 3);
    const at::Tensor u = matrix(kFfn, kWidth, 4), v = matrix(kWidth, kHalf, 5);
    const at::Tensor sum_u = u.to(at::kFloat), sum_v = v.to(at::kFloat);
    (void)linear(x, u, matrix(1, kFfn, 6).squeeze(0));
    (void)linear(z, v, {});
    (void)linear_input_gradient(x, v);
    add_linear_weight_gradient({sum_v}, x, z);
    (void)linear_input_gradient(h, u);
    add_linear_weight_gradient({sum_u}, h, x);
    problems = ProductRecording::problems();
  }
  EXPECT_EQ(problems.size(), 6U);
  const auto begin = std::chrono::steady_clock::now();
  const std::vector<TunedProduct> all = tune_products(problems, gpu());
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begin;
  EXPECT_EQ(all.size(), problems.size());
  double first_s = 0, tuned_s = 0;
  for (const TunedProduct& one : all) {
    const double tera = one.problem.flops() * 1e-12;
    std::printf("%-70s %2lld candidates, first %.0f, tuned %.0f TFLOP/s (%.1f us)\n",
                text_of(one.problem).c_str(), static_cast<long long>(one.candidates), tera / one.first_s,
                tera / one.tuned_s, 1e6 * one.tuned_s);
    EXPECT_LE(one.tuned_s, one.first_s);
    first_s += one.first_s;
    tuned_s += one.tuned_s;
  }
  std::printf("a layer's products: first %.1f us, tuned %.1f us; tuning took %.2f s\n", 1e6 * first_s,
              1e6 * tuned_s, took.count());
}

}  // namespace
}  // namespace sluice::kernels
