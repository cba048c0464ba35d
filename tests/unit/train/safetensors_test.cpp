#include "trainer/train/safetensors.h"

#include <ATen/ops/arange.h>
#include <ATen/ops/equal.h>
#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "tests/unit/train/support.h"
#include "trainer/train/errors.h"
#include "trainer/train/files.h"

namespace sluice::train {
namespace {

std::vector<NamedTensor> two_tensors() {
  return {{"a.weight", at::arange(6, at::kFloat).view({2, 3})}, {"b", at::arange(3, at::kDouble)}};
}

TEST(Safetensors, ReadsBackNamesShapesTypesAndValues) {
  const TemporaryDirectory directory;
  const auto file = directory.path() / "x.safetensors";
  const auto digests = write_safetensors(file, two_tensors());
  const SafetensorsFile read(file);
  ASSERT_EQ(read.tensors().size(), 2U);
  for (const auto& [name, tensor] : two_tensors()) {
    const StoredTensor* stored = read.find(name);
    ASSERT_NE(stored, nullptr) << name;
    EXPECT_EQ(stored->dtype, tensor.scalar_type());
    EXPECT_TRUE(at::equal(read.read(*stored), tensor)) << name;
    EXPECT_EQ(read.digest(*stored), digests.tensors.at(name));
  }
  EXPECT_EQ(read.header_digest(), digests.header);
  EXPECT_EQ(read.find("c"), nullptr);
}

// The layout as the format's specification has it, taken apart without our reader.
TEST(Safetensors, LayoutIsTheFormats) {
  const TemporaryDirectory directory;
  const auto file = directory.path() / "x.safetensors";
  write_safetensors(file, two_tensors());
  const std::string bytes = read_file(file);
  std::size_t length = 0;
  for (std::size_t i = 0; i < 8; ++i)
    length |= static_cast<std::size_t>(static_cast<unsigned char>(bytes[i])) << (8 * i);
  const auto header = nlohmann::json::parse(bytes.substr(8, length));
  EXPECT_EQ(header["a.weight"]["dtype"], "F32");
  EXPECT_EQ(header["a.weight"]["shape"], (std::vector<int>{2, 3}));
  EXPECT_EQ(header["a.weight"]["data_offsets"], (std::vector<int>{0, 24}));
  EXPECT_EQ(header["b"]["dtype"], "F64");
  EXPECT_EQ(header["b"]["data_offsets"], (std::vector<int>{24, 48}));
  EXPECT_EQ(bytes.size(), 8 + length + 48);
  float last = 0;
  bytes.copy(reinterpret_cast<char*>(&last), 4, 8 + length + 20);
  EXPECT_EQ(last, 5.0F);
}

TEST(Safetensors, HoldsWholeNumbersAndMetadata) {
  const TemporaryDirectory directory;
  const auto file = directory.path() / "x.safetensors";
  const at::Tensor ids = at::arange(5, at::kLong).sub(2);
  write_safetensors(file, {{"ids", ids}}, {{"format", "pt"}, {"note", "\"quoted\""}});
  const SafetensorsFile read(file);
  ASSERT_EQ(read.tensors().size(), 1U);
  EXPECT_EQ(read.find("ids")->dtype, at::kLong);
  EXPECT_TRUE(at::equal(read.read(*read.find("ids")), ids));
  const std::string bytes = read_file(file);
  const auto header = nlohmann::json::parse(bytes.substr(8, bytes.size() - 8 - 40));
  EXPECT_EQ(header["__metadata__"], nlohmann::json({{"format", "pt"}, {"note", "\"quoted\""}}));
  EXPECT_EQ(header["ids"]["dtype"], "I64");
}

// Of other programs.
TEST(Safetensors, ReadsTypesThatItDoesNotWriteAndNamesThoseThatItDoesNotRead) {
  const TemporaryDirectory directory;
  const auto file = directory.path() / "x.safetensors";
  const auto put = [&](const std::string& dtype, const std::string& data) {
    std::string header = R"({"a":{"dtype":")" + dtype + R"(","shape":[2],"data_offsets":[0,)" +
                         std::to_string(data.size()) + "]}}";
    std::string length(8, '\0');
    length[0] = static_cast<char>(header.size());
    std::ofstream(file, std::ios::binary) << length << header << data;
  };
  put("F16", std::string("\x00\x3c\x00\xc0", 4));
  const SafetensorsFile half(file);
  EXPECT_EQ(half.find("a")->dtype, at::kHalf);
  const at::Tensor values = half.read(*half.find("a")).to(at::kFloat);
  EXPECT_EQ(values[0].item<float>(), 1.0F);
  EXPECT_EQ(values[1].item<float>(), -2.0F);
  put("BF16", std::string("\x80\x3f\x00\xc0", 4));
  EXPECT_EQ(SafetensorsFile(file).find("a")->dtype, at::kBFloat16);
  put("BOOL", std::string("\x01\x00", 2));
  EXPECT_EQ(SafetensorsFile(file).find("a")->dtype, at::kBool);
  put("F8_E4M3", "ab");
  try {
    const SafetensorsFile read(file);
    FAIL() << "read F8_E4M3";
  } catch (const InputError& error) {
    EXPECT_NE(std::string(error.what()).find("tensor a: dtype F8_E4M3, allowed are F32, F64"),
              std::string::npos)
        << error.what();
  }
}

TEST(Safetensors, RefusesDamagedFilesNamingThem) {
  const TemporaryDirectory directory;
  const auto file = directory.path() / "x.safetensors";
  write_safetensors(file, two_tensors());
  const std::string good = read_file(file);
  const auto refused = [&](const std::string& bytes) {
    std::ofstream(file, std::ios::binary) << bytes;
    try {
      const SafetensorsFile read(file);
    } catch (const InputError& error) {
      return std::string(error.what()).find("x.safetensors") != std::string::npos;
    }
    return false;
  };
  EXPECT_TRUE(refused("")) << "empty";
  EXPECT_TRUE(refused(good.substr(0, good.size() - 1))) << "truncated";
  EXPECT_TRUE(refused(good + "x")) << "too long";
  EXPECT_TRUE(refused(good.substr(0, 20))) << "within the header";
  EXPECT_TRUE(refused(std::string(8, '\xff') + good.substr(8))) << "absurd length";
  std::string type = good;
  type.replace(type.find("F32"), 3, "F16");
  EXPECT_TRUE(refused(type)) << "dtype";
  std::string shape = good;
  shape.replace(shape.find("[2,3]"), 5, "[2,4]");
  EXPECT_TRUE(refused(shape)) << "shape";
}

}  // namespace
}  // namespace sluice::train
