#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace sluice::parallel {

struct TensorSpec {
  std::string name;
  std::vector<std::int64_t> shape;
};

/// Elements [begin, end) of a flat buffer.
struct Range {
  std::int64_t begin = 0;
  std::int64_t end = 0;

  [[nodiscard]] std::int64_t numel() const { return end - begin; }
  friend bool operator==(const Range&, const Range&) = default;
};

/// A run of the flat buffer that is exchanged as one, and the entries [first_entry, last_entry) it holds.
struct Bucket {
  std::int64_t begin = 0;
  std::int64_t end = 0;  ///< padding included
  std::int64_t first_entry = 0;
  std::int64_t last_entry = 0;

  [[nodiscard]] std::int64_t numel() const { return end - begin; }
};

/// How a layout is cut into buckets. The default is one bucket for one rank: nothing is exchanged.
struct BucketPlan {
  std::int64_t bucket_elements =
      std::numeric_limits<std::int64_t>::max();  ///< a bucket holds at least so many, but the last
  std::int64_t world = 1;                        ///< ranks that each bucket divides into
};

/// Where each named tensor lies in a flat buffer: in the given order (the order in which forward uses them,
/// so backward finishes them from the end), each start aligned to kAlignment elements. The buffer is cut into
/// buckets, from the end to the start (the order in which backward finishes them), at borders of entries;
/// each is padded to a multiple of world * kSliceAlignment elements, so that it has an equal slice for every
/// rank, whatever the model. Padding is zero and stays zero. A pure function of its arguments.
class ArenaLayout {
 public:
  static constexpr std::int64_t kAlignment = 32;
  static constexpr std::int64_t kSliceAlignment = 1024;

  struct Entry {
    std::string name;
    std::vector<std::int64_t> shape;
    std::int64_t offset = 0;  ///< elements
    std::int64_t numel = 0;
  };

  /// Throws std::invalid_argument for two tensors of one name, a shape that cannot be, and a plan with fewer
  /// than one element or rank.
  explicit ArenaLayout(const std::vector<TensorSpec>& specs, const BucketPlan& plan = {});

  [[nodiscard]] const std::vector<Entry>& entries() const { return entries_; }
  [[nodiscard]] std::int64_t size() const {
    return size_;
  }  ///< elements of the flat buffer, padding included
  [[nodiscard]] std::optional<std::int64_t> find(std::string_view name) const;

  /// In the order in which they are exchanged: the first lies at the end of the buffer.
  [[nodiscard]] const std::vector<Bucket>& buckets() const { return buckets_; }
  [[nodiscard]] std::int64_t world() const { return world_; }
  /// Rank `rank`'s part of bucket `bucket`: a multiple of kSliceAlignment.
  [[nodiscard]] Range slice(std::int64_t bucket, std::int64_t rank) const;
  /// Every slice, bucket by bucket: slice(bucket, rank) stands at bucket * world() + rank.
  [[nodiscard]] std::vector<Range> slices() const;
  /// Rank `rank`'s slices of all buckets, by ascending begin.
  [[nodiscard]] std::vector<Range> owned(std::int64_t rank) const;

  /// A zeroed flat buffer of this layout.
  [[nodiscard]] at::Tensor allocate(at::ScalarType dtype, at::Device device) const;
  /// Entry `index` of a flat buffer of this layout, in its shape; a view.
  [[nodiscard]] at::Tensor view(const at::Tensor& flat, std::int64_t index) const;
  /// Bucket `index` of a flat buffer of this layout; a view.
  [[nodiscard]] at::Tensor bucket_view(const at::Tensor& flat, std::int64_t index) const;

 private:
  void check_flat(const at::Tensor& flat) const;

  std::vector<Entry> entries_;
  std::vector<Bucket> buckets_;
  std::int64_t size_ = 0;
  std::int64_t world_ = 1;
};

}  // namespace sluice::parallel
