#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

// The safetensors format (https://github.com/huggingface/safetensors): 8 bytes little-endian length of a JSON
// header, the header (name -> dtype, shape, offsets), then the tensors' bytes without gaps. Opens with
// safetensors in Python.

namespace sluice::train {

struct NamedTensor {
  std::string name;
  at::Tensor tensor;
};

/// XXH3-64 of each tensor's bytes by name, and of the length and header in front of them.
struct SafetensorsDigests {
  std::string header;
  std::map<std::string, std::string> tensors;
};

/// Writes and fsyncs the file. `tensors`: CPU, contiguous, float32, float64 or int64; `metadata`: texts that
/// the header keeps beside them. Throws std::system_error.
SafetensorsDigests write_safetensors(const std::filesystem::path& file,
                                     const std::vector<NamedTensor>& tensors,
                                     const std::map<std::string, std::string>& metadata = {});

/// One tensor's place in a file.
struct StoredTensor {
  std::string name;
  at::ScalarType dtype = at::kFloat;
  std::vector<std::int64_t> shape;
  std::int64_t begin = 0;  ///< bytes from the start of the file
  std::int64_t end = 0;
};

/// An open file whose header was checked: known dtypes (floating ones, whole numbers with sign, U8 and BOOL),
/// no gap, no overlap, shapes that fill their bytes, file of that length.
class SafetensorsFile {
 public:
  /// Throws InputError naming the file and what is wrong with it.
  explicit SafetensorsFile(std::filesystem::path file);

  [[nodiscard]] const std::vector<StoredTensor>& tensors() const {
    return tensors_;
  }  ///< by place in the file
  [[nodiscard]] const std::string& header_digest() const { return header_digest_; }
  /// Null if there is none of that name.
  [[nodiscard]] const StoredTensor* find(const std::string& name) const;
  /// The tensor's bytes, in its own dtype and shape.
  [[nodiscard]] at::Tensor read(const StoredTensor& stored) const;
  [[nodiscard]] std::string digest(const StoredTensor& stored) const;

 private:
  [[nodiscard]] std::string read_bytes(const StoredTensor& stored) const;

  std::filesystem::path file_;
  std::vector<StoredTensor> tensors_;
  std::string header_digest_;
};

/// float64 where the file has any tensor of it, else float32: what holds all values as they are.
[[nodiscard]] at::ScalarType exact_type(const SafetensorsFile& file);

}  // namespace sluice::train
