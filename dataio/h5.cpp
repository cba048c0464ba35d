#include "dataio/h5.h"

#include <hdf5.h>

#include <mutex>
#include <utility>

namespace sluice::dataio::h5 {
namespace {

static_assert(sizeof(hid_t) == sizeof(std::int64_t), "h5::File keeps a hid_t as int64");

/// While one lives this thread owns HDF5, and HDF5 does not print its errors.
class Session {
 public:
  Session() : lock_(mutex()) {
    // Files are closed by their owners; HDF5's own clean-up at exit loops and prints after a damaged file.
    static const herr_t no_clean_up_at_exit = H5dont_atexit();
    static_cast<void>(no_clean_up_at_exit);
    H5Eget_auto2(H5E_DEFAULT, &print_, &print_data_);
    H5Eset_auto2(H5E_DEFAULT, nullptr, nullptr);
  }
  ~Session() { H5Eset_auto2(H5E_DEFAULT, print_, print_data_); }
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

 private:
  static std::mutex& mutex() {
    static std::mutex instance;
    return instance;
  }
  std::lock_guard<std::mutex> lock_;
  H5E_auto2_t print_ = nullptr;
  void* print_data_ = nullptr;
};

/// Owner of any HDF5 object within one Session.
class Handle {
 public:
  Handle(hid_t id, herr_t (*close)(hid_t)) : id_(id), close_(close) {}
  ~Handle() {
    if (id_ >= 0) close_(id_);
  }
  Handle(Handle&& other) noexcept : id_(std::exchange(other.id_, -1)), close_(other.close_) {}
  Handle& operator=(Handle&&) = delete;
  operator hid_t() const { return id_; }

 private:
  hid_t id_;
  herr_t (*close_)(hid_t);
};

herr_t collect(unsigned, const H5E_error2_t* entry, void* out) {
  auto& text = *static_cast<std::string*>(out);
  if (entry->desc != nullptr && *entry->desc != '\0') {
    if (!text.empty()) text += "; ";
    text += entry->desc;
  }
  return 0;
}

std::string error_stack() {
  std::string text;
  H5Ewalk2(H5E_DEFAULT, H5E_WALK_UPWARD, collect, &text);
  H5Eclear2(H5E_DEFAULT);
  return text.empty() ? "no reason given" : text;
}

/// Calls that return a negative value on failure: all that are used here.
template <typename T>
T check(T result, const std::filesystem::path& path, const char* call) {
  if (result < 0) throw Hdf5Error(path, call, error_stack());
  return result;
}

Handle access_properties(const std::filesystem::path& path) {
  Handle list(check(H5Pcreate(H5P_FILE_ACCESS), path, "H5Pcreate"), H5Pclose);
  // Shards are written once under a temporary name and then only read: HDF5's own locks add nothing, and make
  // opening fail on file systems without flock.
  check(H5Pset_file_locking(list, false, true), path, "H5Pset_file_locking");
  check(H5Pset_fclose_degree(list, H5F_CLOSE_STRONG), path, "H5Pset_fclose_degree");
  return list;
}

hid_t file_type(ElementType type) {
  switch (type) {
    case ElementType::kUint16:
      return H5T_STD_U16LE;
    case ElementType::kUint32:
      return H5T_STD_U32LE;
    case ElementType::kInt64:
      return H5T_STD_I64LE;
    case ElementType::kUint64:
      return H5T_STD_U64LE;
  }
  return H5I_INVALID_HID;
}

std::optional<ElementType> element_type(hid_t type) {
  for (const auto candidate :
       {ElementType::kUint16, ElementType::kUint32, ElementType::kInt64, ElementType::kUint64}) {
    if (H5Tequal(type, file_type(candidate)) > 0) return candidate;
  }
  return std::nullopt;
}

std::string describe_type(hid_t type) {
  const auto bits = std::to_string(8 * H5Tget_size(type)) + "-bit ";
  const auto kind = H5Tget_class(type);
  if (kind != H5T_INTEGER) return bits + (kind == H5T_FLOAT ? "float" : "type that is no integer");
  return bits + (H5Tget_sign(type) == H5T_SGN_NONE ? "unsigned" : "signed") + " integer, " +
         (H5Tget_order(type) == H5T_ORDER_BE ? "big" : "little") + " endian";
}

StorageLayout storage_layout(H5D_layout_t layout) {
  switch (layout) {
    case H5D_CONTIGUOUS:
      return StorageLayout::kContiguous;
    case H5D_COMPACT:
      return StorageLayout::kCompact;
    case H5D_VIRTUAL:
      return StorageLayout::kVirtual;
    default:
      return StorageLayout::kChunked;
  }
}

void write_attribute(hid_t file, const std::filesystem::path& path, const std::string& name, hid_t type,
                     const void* value) {
  const Handle space(check(H5Screate(H5S_SCALAR), path, "H5Screate"), H5Sclose);
  const Handle attribute(
      check(H5Acreate2(file, name.c_str(), type, space, H5P_DEFAULT, H5P_DEFAULT), path, "H5Acreate2"),
      H5Aclose);
  check(H5Awrite(attribute, type, value), path, "H5Awrite");
}

void write_dataset(hid_t file, const std::filesystem::path& path, const std::string& name, hid_t type,
                   const void* values) {
  const Handle data(check(H5Dopen2(file, name.c_str(), H5P_DEFAULT), path, "H5Dopen2"), H5Dclose);
  check(H5Dwrite(data, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, values), path, "H5Dwrite");
}

template <typename T>
std::vector<T> read_dataset(hid_t file, const std::filesystem::path& path, const std::string& name,
                            hid_t type) {
  const Handle data(check(H5Dopen2(file, name.c_str(), H5P_DEFAULT), path, "H5Dopen2"), H5Dclose);
  const Handle space(check(H5Dget_space(data), path, "H5Dget_space"), H5Sclose);
  const auto count = check(H5Sget_simple_extent_npoints(space), path, "H5Sget_simple_extent_npoints");
  std::vector<T> values(static_cast<std::size_t>(count));
  if (count > 0) check(H5Dread(data, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, values.data()), path, "H5Dread");
  return values;
}

}  // namespace

std::string library_version() {
  const Session session;
  unsigned major = 0;
  unsigned minor = 0;
  unsigned release = 0;
  check(H5get_libversion(&major, &minor, &release), {}, "H5get_libversion");
  return std::to_string(major) + "." + std::to_string(minor) + "." + std::to_string(release);
}

File File::create(const std::filesystem::path& path) {
  const Session session;
  const Handle access = access_properties(path);
  return {path, check(H5Fcreate(path.c_str(), H5F_ACC_EXCL, H5P_DEFAULT, access), path, "H5Fcreate")};
}

File File::open(const std::filesystem::path& path, Access mode) {
  const Session session;
  const Handle access = access_properties(path);
  const unsigned flags = mode == Access::kRead ? H5F_ACC_RDONLY : H5F_ACC_RDWR;
  return {path, check(H5Fopen(path.c_str(), flags, access), path, "H5Fopen")};
}

File::File(File&& other) noexcept : path_(std::move(other.path_)), id_(std::exchange(other.id_, -1)) {}

File::~File() {
  if (id_ < 0) return;
  const Session session;
  H5Fclose(id_);
}

void File::close() {
  const Session session;
  check(H5Fclose(std::exchange(id_, -1)), path_, "H5Fclose");
}

void File::set_attribute(const std::string& name, std::string_view value) {
  const Session session;
  const Handle type(check(H5Tcopy(H5T_C_S1), path_, "H5Tcopy"), H5Tclose);
  check(H5Tset_size(type, value.size()), path_, "H5Tset_size");
  check(H5Tset_strpad(type, H5T_STR_NULLPAD), path_, "H5Tset_strpad");
  write_attribute(id_, path_, name, type, value.data());
}

void File::set_attribute(const std::string& name, std::int64_t value) {
  const Session session;
  write_attribute(id_, path_, name, H5T_STD_I64LE, &value);
}

std::optional<std::string> File::string_attribute(const std::string& name) const {
  const Session session;
  if (check(H5Aexists(id_, name.c_str()), path_, "H5Aexists") == 0) return std::nullopt;
  const Handle attribute(check(H5Aopen(id_, name.c_str(), H5P_DEFAULT), path_, "H5Aopen"), H5Aclose);
  const Handle type(check(H5Aget_type(attribute), path_, "H5Aget_type"), H5Tclose);
  const Handle space(check(H5Aget_space(attribute), path_, "H5Aget_space"), H5Sclose);
  if (H5Tget_class(type) != H5T_STRING || H5Sget_simple_extent_npoints(space) != 1) return std::nullopt;
  if (H5Tis_variable_str(type) > 0) {  // what h5py writes
    char* text = nullptr;
    check(H5Aread(attribute, type, &text), path_, "H5Aread");
    std::string value = text == nullptr ? "" : text;
    H5free_memory(text);
    return value;
  }
  std::string value(H5Tget_size(type), '\0');
  check(H5Aread(attribute, type, value.data()), path_, "H5Aread");
  return value.substr(0, value.find('\0'));
}

std::optional<std::int64_t> File::integer_attribute(const std::string& name) const {
  const Session session;
  if (check(H5Aexists(id_, name.c_str()), path_, "H5Aexists") == 0) return std::nullopt;
  const Handle attribute(check(H5Aopen(id_, name.c_str(), H5P_DEFAULT), path_, "H5Aopen"), H5Aclose);
  const Handle type(check(H5Aget_type(attribute), path_, "H5Aget_type"), H5Tclose);
  const Handle space(check(H5Aget_space(attribute), path_, "H5Aget_space"), H5Sclose);
  if (H5Tget_class(type) != H5T_INTEGER || H5Sget_simple_extent_npoints(space) != 1) return std::nullopt;
  std::int64_t value = 0;
  check(H5Aread(attribute, H5T_NATIVE_INT64, &value), path_, "H5Aread");
  return value;
}

void File::create_dataset(const std::string& name, ElementType type, std::int64_t count) {
  const Session session;
  const auto extent = static_cast<hsize_t>(count);
  const Handle space(check(H5Screate_simple(1, &extent, nullptr), path_, "H5Screate_simple"), H5Sclose);
  const Handle list(check(H5Pcreate(H5P_DATASET_CREATE), path_, "H5Pcreate"), H5Pclose);
  check(H5Pset_layout(list, H5D_CONTIGUOUS), path_, "H5Pset_layout");
  check(H5Pset_alloc_time(list, H5D_ALLOC_TIME_EARLY), path_, "H5Pset_alloc_time");
  check(H5Pset_fill_time(list, H5D_FILL_TIME_NEVER), path_, "H5Pset_fill_time");
  check(H5Pset_obj_track_times(list, false), path_, "H5Pset_obj_track_times");
  const Handle data(
      check(H5Dcreate2(id_, name.c_str(), file_type(type), space, H5P_DEFAULT, list, H5P_DEFAULT), path_,
            "H5Dcreate2"),
      H5Dclose);
}

void File::write(const std::string& name, std::span<const std::int64_t> values) {
  const Session session;
  if (!values.empty()) write_dataset(id_, path_, name, H5T_NATIVE_INT64, values.data());
}

void File::write(const std::string& name, std::span<const std::uint64_t> values) {
  const Session session;
  if (!values.empty()) write_dataset(id_, path_, name, H5T_NATIVE_UINT64, values.data());
}

std::optional<DatasetInfo> File::dataset(const std::string& name) const {
  const Session session;
  if (check(H5Lexists(id_, name.c_str(), H5P_DEFAULT), path_, "H5Lexists") == 0) return std::nullopt;
  const Handle data(check(H5Dopen2(id_, name.c_str(), H5P_DEFAULT), path_, "H5Dopen2"), H5Dclose);
  const Handle space(check(H5Dget_space(data), path_, "H5Dget_space"), H5Sclose);
  const Handle type(check(H5Dget_type(data), path_, "H5Dget_type"), H5Tclose);
  const Handle list(check(H5Dget_create_plist(data), path_, "H5Dget_create_plist"), H5Pclose);
  DatasetInfo info;
  info.type = element_type(type);
  info.type_text = describe_type(type);
  info.rank = check(H5Sget_simple_extent_ndims(space), path_, "H5Sget_simple_extent_ndims");
  info.count = check(H5Sget_simple_extent_npoints(space), path_, "H5Sget_simple_extent_npoints");
  info.layout = storage_layout(H5Pget_layout(list));
  // HADDR_UNDEF for chunked, compact, external and not yet allocated data (a dataset without elements).
  const bool external = H5Pget_external_count(list) > 0;
  const haddr_t offset = H5Dget_offset(data);
  if (offset != HADDR_UNDEF && !external) info.offset = static_cast<std::int64_t>(offset);
  H5Eclear2(H5E_DEFAULT);
  return info;
}

std::vector<std::int64_t> File::read_int64(const std::string& name) const {
  const Session session;
  return read_dataset<std::int64_t>(id_, path_, name, H5T_NATIVE_INT64);
}

std::vector<std::uint64_t> File::read_uint64(const std::string& name) const {
  const Session session;
  return read_dataset<std::uint64_t>(id_, path_, name, H5T_NATIVE_UINT64);
}

}  // namespace sluice::dataio::h5
