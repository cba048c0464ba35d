#pragma once

#include <ATen/core/Tensor.h>

#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace sluice::parallel {

/// Which ranks hold the same values of a tensor, and so sum its gradient.
enum class Holders {
  kAllRanks,
  kSamePlace,  ///< those with one place in their rows (Mesh): each rank of a row holds another part of it
};

struct TensorSpec {
  std::string name;
  std::vector<std::int64_t> shape;  ///< of this rank's part
  Holders holders = Holders::kAllRanks;
  std::int64_t room = 0;  ///< elements that are kept free for it where it has fewer: those of the largest
                          ///< part, so that everything stands at the same offset on every rank
  bool late = false;      ///< backward leaves its gradient until it has those of all that are not late
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
  Holders holders = Holders::kAllRanks;  ///< of every entry in it

  [[nodiscard]] std::int64_t numel() const { return end - begin; }
};

/// How a layout is cut into buckets. The default is one bucket for one rank: nothing is exchanged.
struct BucketPlan {
  std::int64_t bucket_elements =
      std::numeric_limits<std::int64_t>::max();  ///< a bucket holds at least so many, but the last
  std::int64_t world = 1;                        ///< ranks that share the work of each bucket
  std::int64_t sequence_ranks = 1;               ///< of a row of them, whose parts of some tensors differ
};

/// Where each named tensor lies in a flat buffer: in the given order (the order in which forward uses them,
/// so backward finishes them from the end), each start aligned to kAlignment elements. The buffer is cut into
/// buckets, from the end to the start (the order in which backward finishes them), at borders of entries,
/// and wherever other ranks hold the next one; each is padded to a multiple of kSliceAlignment elements for
/// each of its holders, so that it has an equal slice for every one of them, whatever the model. Padding is
/// zero and stays zero. A pure function of its arguments.
///
/// Where ranks share the work, entries that are late have buckets of their own, which come last: the gradient
/// of an embedding at the start of the buffer travels while backward finishes what it left.
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

  /// Throws std::invalid_argument for two tensors of one name, a shape that cannot be, a plan with fewer than
  /// one element or rank, and rows that do not divide the ranks.
  explicit ArenaLayout(const std::vector<TensorSpec>& specs, const BucketPlan& plan = {});

  [[nodiscard]] const std::vector<Entry>& entries() const { return entries_; }
  [[nodiscard]] std::int64_t size() const {
    return size_;
  }  ///< elements of the flat buffer, padding included
  [[nodiscard]] std::optional<std::int64_t> find(std::string_view name) const;

  /// In the order in which they are exchanged: from the end of the buffer, those of late entries last.
  [[nodiscard]] const std::vector<Bucket>& buckets() const { return buckets_; }
  [[nodiscard]] std::int64_t world() const { return world_; }
  [[nodiscard]] std::int64_t sequence_ranks() const { return sequence_ranks_; }
  /// Their places in buckets() from the start of the buffer: the order in which forward uses them.
  [[nodiscard]] std::vector<std::size_t> in_order_of_use() const;
  /// How many ranks hold, and divide into slices, what `holders` says.
  [[nodiscard]] std::int64_t count(Holders holders) const {
    return holders == Holders::kAllRanks ? world_ : world_ / sequence_ranks_;
  }
  /// Whether ranks of a row hold other parts than this one of some tensor.
  [[nodiscard]] bool differs_by_place() const;
  /// Rank `rank`'s part of bucket `bucket`, a multiple of kSliceAlignment: the part of number `rank`; of what
  /// differs by place, number `rank` / sequence_ranks(), and the same elements for a whole row.
  [[nodiscard]] Range slice(std::int64_t bucket, std::int64_t rank) const;
  /// Every rank's slices, bucket by bucket: slice(bucket, rank) stands at bucket * world() + rank.
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
  std::int64_t sequence_ranks_ = 1;
};

}  // namespace sluice::parallel
