#include "trainer/kernels/product_table.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <stdexcept>
#include <string>
#include <vector>

#include "trainer/kernels/device_products.h"

// What a run keeps of the algorithms that it chose.
namespace sluice::kernels {
namespace {

const ProductProblem kProblem{.kind = ProductKind::kLinearBias,
                              .result = ProductResult::kBf16,
                              .m = 3072,
                              .n = 32768,
                              .k = 512,
                              .a_stride = 512,
                              .b_stride = 520,
                              .d_stride = 3072};

TEST(ProductTableTest, ProblemsHaveNamesOfTheirOwn) {
  EXPECT_EQ(text_of(kProblem), "linear_bias bf16 3072 x 32768 x 512 by 512, 520, 3072");
  ProductProblem other = kProblem;
  other.kind = ProductKind::kWeightGradient;
  other.result = ProductResult::kFloat;
  EXPECT_EQ(text_of(other), "weight_gradient fp32 3072 x 32768 x 512 by 512, 520, 3072");
}

RC_GTEST_PROP(ProductTableTest, GoesThroughText, (const std::vector<ProductAlgorithm>& algorithms)) {
  ProductTable table{.device = "GPU \"A\"", .library = 130100, .algorithms = {}};
  ProductProblem problem = kProblem;
  for (const ProductAlgorithm& one : algorithms) {
    ++problem.n;
    table.algorithms[text_of(problem)] = one;
  }
  RC_ASSERT(table.algorithms.size() == algorithms.size());
  RC_ASSERT(read_table(table_text(table)) == table);
}

TEST(ProductTableTest, TextIsWrittenOut) {
  ProductTable table{.device = "NVIDIA H200", .library = 130100, .algorithms = {}};
  table.algorithms[text_of(kProblem)] = {1, 0xfedcba9876543210U};
  const std::string text = table_text(table);
  EXPECT_NE(text.find(R"("0000000000000001fedcba9876543210)" + std::string(96, '0') + '"'), std::string::npos)
      << text;
}

/// What read_table says of a text; empty if it takes it.
std::string fault(const std::string& text) {
  try {
    (void)read_table(text);
  } catch (const std::invalid_argument& error) {
    return error.what();
  }
  return {};
}

TEST(ProductTableTest, ForeignTextIsRefusedWithItsReason) {
  const auto with = [](const std::string& version, const std::string& algorithm) {
    return R"({"format":"sluice-products","version":)" + version +
           R"(,"device":"GPU","cublaslt":1,"algorithms":{"linear":)" + algorithm + "}}";
  };
  const std::string good = '"' + std::string(128, 'a') + '"';
  EXPECT_EQ(fault(with("1", good)), "");
  const auto expect = [](const std::string& text, const std::string& reason) {
    EXPECT_NE(fault(text).find(reason), std::string::npos) << fault(text);
  };
  expect("", "parse error");
  expect("[]", "table of product algorithms");
  expect("{}", "format is not sluice-products");
  expect(R"({"format":"sluice-products"})", "version");
  expect(with("2", good), "version 2, this program reads 1");
  expect(with("1", "7"), "type must be string");
  expect(with("1", R"("abc")"), "128 hexadecimal digits");
  expect(with("1", '"' + std::string(127, 'a') + "G\""), "128 hexadecimal digits");
  expect(with("1", '"' + std::string(127, 'a') + " \""), "128 hexadecimal digits");
}

TEST(ProductTableTest, NothingOfTheCpuIsRecorded) {
  const ProductRecording recording;
  EXPECT_TRUE(ProductRecording::problems().empty());
}

}  // namespace
}  // namespace sluice::kernels
