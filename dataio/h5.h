#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "dataio/error.h"

namespace sluice::dataio {

/// An HDF5 call that failed: names the file, the call and HDF5's own error stack, innermost reason first.
class Hdf5Error : public DataError {
 public:
  Hdf5Error(std::filesystem::path file, std::string call, const std::string& stack)
      : DataError(std::move(file), call + " failed: " + stack), call_(std::move(call)) {}

  [[nodiscard]] const std::string& call() const { return call_; }

 private:
  std::string call_;
};

/// The few HDF5 operations that the shard format needs. Every function takes one process-wide lock, since an
/// HDF5 library need not be built thread-safe; no function here is on the path of reading tokens. All throw
/// Hdf5Error.
namespace h5 {

enum class ElementType { kUint16, kUint32, kInt64, kUint64 };  ///< little endian, in the file
enum class StorageLayout { kContiguous, kChunked, kCompact, kVirtual };
enum class Access { kRead, kReadWrite };

/// "1.10.8", as the library names itself at run time.
[[nodiscard]] std::string library_version();

/// A dataset as it is stored.
struct DatasetInfo {
  std::optional<ElementType> type;  ///< empty: none of the types above
  std::string type_text;            ///< for messages: "16-bit unsigned integer, big endian"
  std::int64_t rank = 0;
  std::int64_t count = 0;  ///< elements
  StorageLayout layout = StorageLayout::kContiguous;
  std::optional<std::int64_t>
      offset;  ///< bytes from the file's start; empty: HDF5 has no single place for it
};

/// Owner of an open HDF5 file. Attributes are those of the root group, datasets those right below it.
class File {
 public:
  /// Refuses a file that exists. Creation times are not stored: equal content gives equal files.
  [[nodiscard]] static File create(const std::filesystem::path& path);
  [[nodiscard]] static File open(const std::filesystem::path& path, Access access);
  ~File();  ///< closes, and swallows an error: call close() where it matters
  File(File&& other) noexcept;
  File& operator=(File&&) = delete;

  void close();

  void set_attribute(const std::string& name, std::string_view value);
  void set_attribute(const std::string& name, std::int64_t value);
  /// Empty if there is no such attribute, or it is not a single string / integer.
  [[nodiscard]] std::optional<std::string> string_attribute(const std::string& name) const;
  [[nodiscard]] std::optional<std::int64_t> integer_attribute(const std::string& name) const;

  /// A contiguous 1-D dataset whose space is allocated at once and not filled.
  void create_dataset(const std::string& name, ElementType type, std::int64_t count);
  void write(const std::string& name, std::span<const std::int64_t> values);
  void write(const std::string& name, std::span<const std::uint64_t> values);

  /// Empty if there is no such dataset.
  [[nodiscard]] std::optional<DatasetInfo> dataset(const std::string& name) const;
  [[nodiscard]] std::vector<std::int64_t> read_int64(const std::string& name) const;
  [[nodiscard]] std::vector<std::uint64_t> read_uint64(const std::string& name) const;

 private:
  File(std::filesystem::path path, std::int64_t id) : path_(std::move(path)), id_(id) {}
  std::filesystem::path path_;
  std::int64_t id_ = -1;
};

}  // namespace h5
}  // namespace sluice::dataio
