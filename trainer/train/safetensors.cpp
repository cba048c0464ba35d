#include "trainer/train/safetensors.h"

#include <ATen/ops/empty.h>
#include <c10/core/ScalarType.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>
#include <utility>

#include "trainer/train/errors.h"
#include "trainer/train/files.h"

namespace sluice::train {

namespace {

using OrderedJson = nlohmann::ordered_json;

static_assert(std::endian::native == std::endian::little,
              "safetensors are little endian, and are written as they lie in memory");

constexpr std::int64_t kLengthBytes = 8;
constexpr std::int64_t kMaxHeaderBytes = 100'000'000;  ///< the format's own limit

std::string_view bytes_of(const at::Tensor& tensor) {
  return {static_cast<const char*>(tensor.const_data_ptr()), static_cast<std::size_t>(tensor.nbytes())};
}

constexpr std::ptrdiff_t kWritten = 3;
struct DtypeName {
  at::ScalarType dtype;
  const char* name;
};
/// Those that are read; the first kWritten are written, too.
constexpr DtypeName kDtypes[] = {{at::kFloat, "F32"}, {at::kDouble, "F64"},    {at::kLong, "I64"},
                                 {at::kHalf, "F16"},  {at::kBFloat16, "BF16"}, {at::kInt, "I32"},
                                 {at::kShort, "I16"}, {at::kChar, "I8"},       {at::kByte, "U8"},
                                 {at::kBool, "BOOL"}};

std::string dtype_name(at::ScalarType dtype) {
  const auto* const found = std::ranges::find(kDtypes, kDtypes + kWritten, dtype, &DtypeName::dtype);
  TORCH_CHECK(found != kDtypes + kWritten, "safetensors: float32, float64 or int64, not ", dtype);
  return found->name;
}

at::ScalarType dtype_of(const std::string& name, const std::string& tensor) {
  const auto* const found = std::ranges::find(kDtypes, name, &DtypeName::name);
  if (found == std::end(kDtypes)) {
    std::vector<std::string> known;
    for (const auto& one : kDtypes) known.emplace_back(one.name);
    throw InputError(
        fmt::format("tensor {}: dtype {}, allowed are {}", tensor, name, fmt::join(known, ", ")));
  }
  return found->dtype;
}

std::string make_header(const std::vector<NamedTensor>& tensors,
                        const std::map<std::string, std::string>& metadata) {
  OrderedJson header = OrderedJson::object();
  if (!metadata.empty()) header["__metadata__"] = metadata;
  std::int64_t offset = 0;
  for (const auto& [name, tensor] : tensors) {
    TORCH_CHECK(tensor.is_contiguous() && tensor.device().is_cpu(), "safetensors: ", name,
                " must be contiguous on the CPU");
    const auto end = offset + static_cast<std::int64_t>(tensor.nbytes());
    header[name] = {{"dtype", dtype_name(tensor.scalar_type())},
                    {"shape", tensor.sizes().vec()},
                    {"data_offsets", {offset, end}}};
    offset = end;
  }
  std::string text = header.dump();
  text.append((kLengthBytes - text.size() % kLengthBytes) % kLengthBytes, ' ');  // tensors start aligned
  const auto length = static_cast<std::uint64_t>(text.size());
  std::string bytes(kLengthBytes, '\0');
  std::memcpy(bytes.data(), &length, sizeof length);
  return bytes + text;
}

StoredTensor parse_entry(const std::string& name, const OrderedJson& entry, std::int64_t data_start) {
  StoredTensor stored;
  stored.name = name;
  stored.dtype = dtype_of(entry.at("dtype").get<std::string>(), name);
  stored.shape = entry.at("shape").get<std::vector<std::int64_t>>();
  const auto offsets = entry.at("data_offsets").get<std::vector<std::int64_t>>();
  auto bytes = static_cast<std::int64_t>(c10::elementSize(stored.dtype));
  for (const std::int64_t extent : stored.shape) bytes *= extent;
  if (offsets.size() != 2 || offsets[1] - offsets[0] != bytes || offsets[0] < 0) {
    throw InputError(fmt::format("tensor {}: its offsets do not hold its shape", name));
  }
  stored.begin = data_start + offsets[0];
  stored.end = data_start + offsets[1];
  return stored;
}

void check_no_gap(const std::vector<StoredTensor>& tensors, std::int64_t data_start,
                  std::int64_t file_bytes) {
  std::int64_t expected = data_start;
  for (const auto& stored : tensors) {
    if (stored.begin != expected)
      throw InputError(fmt::format("tensor {}: gap or overlap before it", stored.name));
    expected = stored.end;
  }
  if (expected != file_bytes)
    throw InputError(fmt::format("{} bytes long, its header says {}", file_bytes, expected));
}

}  // namespace

SafetensorsDigests write_safetensors(const std::filesystem::path& file,
                                     const std::vector<NamedTensor>& tensors,
                                     const std::map<std::string, std::string>& metadata) {
  const std::string header = make_header(tensors, metadata);
  SafetensorsDigests digests{.header = digest_of(header), .tensors = {}};
  DurableFile out(file);
  out.write(header);
  for (const auto& [name, tensor] : tensors) {
    digests.tensors[name] = digest_of(bytes_of(tensor));
    out.write(bytes_of(tensor));
  }
  out.close();
  return digests;
}

SafetensorsFile::SafetensorsFile(std::filesystem::path file) : file_(std::move(file)) {
  try {
    std::ifstream in(file_, std::ios::binary);
    if (!in) throw InputError("cannot be opened");
    std::uint64_t length = 0;
    in.read(reinterpret_cast<char*>(&length), kLengthBytes);
    if (!in || length > static_cast<std::uint64_t>(kMaxHeaderBytes))
      throw InputError("no safetensors header");
    std::string bytes(kLengthBytes + length, '\0');
    std::memcpy(bytes.data(), &length, sizeof length);
    in.read(bytes.data() + kLengthBytes, static_cast<std::streamsize>(length));
    if (!in) throw InputError("ends within its header");
    header_digest_ = digest_of(bytes);
    const auto data_start = static_cast<std::int64_t>(bytes.size());
    const OrderedJson header = OrderedJson::parse(bytes.substr(kLengthBytes));
    for (const auto& [name, entry] : header.items()) {
      if (name != "__metadata__") tensors_.push_back(parse_entry(name, entry, data_start));
    }
    std::ranges::sort(tensors_, {}, &StoredTensor::begin);
    check_no_gap(tensors_, data_start, static_cast<std::int64_t>(std::filesystem::file_size(file_)));
  } catch (const std::exception& error) {
    throw InputError(fmt::format("{}: {}", file_.string(), error.what()));
  }
}

const StoredTensor* SafetensorsFile::find(const std::string& name) const {
  const auto found = std::ranges::find(tensors_, name, &StoredTensor::name);
  return found == tensors_.end() ? nullptr : &*found;
}

std::string SafetensorsFile::read_bytes(const StoredTensor& stored) const {
  std::string bytes(static_cast<std::size_t>(stored.end - stored.begin), '\0');
  std::ifstream in(file_, std::ios::binary);
  in.seekg(stored.begin);
  in.read(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  if (!in) throw InputError(fmt::format("{}: tensor {} cannot be read", file_.string(), stored.name));
  return bytes;
}

at::Tensor SafetensorsFile::read(const StoredTensor& stored) const {
  at::Tensor tensor = at::empty(stored.shape, stored.dtype);
  const std::string bytes = read_bytes(stored);
  std::memcpy(tensor.mutable_data_ptr(), bytes.data(), bytes.size());
  return tensor;
}

std::string SafetensorsFile::digest(const StoredTensor& stored) const {
  return digest_of(read_bytes(stored));
}

at::ScalarType exact_type(const SafetensorsFile& file) {
  const bool wide =
      std::ranges::any_of(file.tensors(), [](const StoredTensor& one) { return one.dtype == at::kDouble; });
  return wide ? at::kDouble : at::kFloat;
}

}  // namespace sluice::train
