#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace sluice::parallel {

struct TensorSpec {
  std::string name;
  std::vector<std::int64_t> shape;
};

/// Where each named tensor lies in a flat buffer: in the given order (the order in which forward uses them,
/// so backward finishes them from the end), each start aligned to kAlignment elements; padding is zero and
/// stays zero.
class ArenaLayout {
 public:
  static constexpr std::int64_t kAlignment = 32;

  struct Entry {
    std::string name;
    std::vector<std::int64_t> shape;
    std::int64_t offset = 0;  ///< elements
    std::int64_t numel = 0;
  };

  /// Throws std::invalid_argument for two tensors of one name.
  explicit ArenaLayout(const std::vector<TensorSpec>& specs);

  [[nodiscard]] const std::vector<Entry>& entries() const { return entries_; }
  [[nodiscard]] std::int64_t size() const {
    return size_;
  }  ///< elements of the flat buffer, padding included
  [[nodiscard]] std::optional<std::int64_t> find(std::string_view name) const;

  /// A zeroed flat buffer of this layout.
  [[nodiscard]] at::Tensor allocate(at::ScalarType dtype, at::Device device) const;
  /// Entry `index` of a flat buffer of this layout, in its shape; a view.
  [[nodiscard]] at::Tensor view(const at::Tensor& flat, std::int64_t index) const;

 private:
  std::vector<Entry> entries_;
  std::int64_t size_ = 0;
};

/// A slice [begin, end) of the flat gradient buffer that is reduced as one, and the entries [first_entry,
/// last_entry) it holds.
struct Bucket {
  std::int64_t begin = 0;
  std::int64_t end = 0;
  std::int64_t first_entry = 0;
  std::int64_t last_entry = 0;
};

/// Cuts a layout into buckets of at least `bucket_elements` (but the last), from the end to the start: in the
/// order in which backward finishes them. Every element is in exactly one bucket; borders are entry borders.
[[nodiscard]] std::vector<Bucket> plan_buckets(const ArenaLayout& layout, std::int64_t bucket_elements);

}  // namespace sluice::parallel
