#pragma once

#include <array>
#include <condition_variable>
#include <cstdint>
#include <exception>
#include <mutex>
#include <optional>
#include <stop_token>
#include <thread>
#include <vector>

#include "parallel/arena.h"
#include "parallel/bucket_groups.h"
#include "parallel/ordered_reduction.h"
#include "parallel/pushed_reduction.h"

namespace sluice::parallel {

/// Who moves the exchange while backward runs (MPI moves only inside MPI calls): the thread that calls
/// mark_ready(), or one of the reducer's own. README has what was measured.
enum class ReducerProgress { kCaller, kThread };

/// What each rank has of every bucket afterwards. kReduceScatter: the sum in its own slice, the rest
/// unspecified (ZeRO-1). kReduceScatterAllGather: as kAllReduce, in the order of sums of kReduceScatter: what
/// a plain run is compared with where the two differ in bits (NCCL).
enum class ReduceMode { kAllReduce, kReduceScatter, kReduceScatterAllGather };

/// How an all-reduced bucket comes that no backward hides, the last one: kWhole, or to each rank its own
/// slice by finish_slices(), and the others' from gather_last() to finish(), beside what is done with what is
/// there.
enum class LastBucket { kWhole, kInHalves };

struct ReducerOptions {
  ReduceMode mode = ReduceMode::kAllReduce;
  LastBucket last = LastBucket::kWhole;  ///< kInHalves: of kAllReduce in float32, else kWhole
  ReducerProgress progress = ReducerProgress::kThread;
  at::ScalarType wire =
      at::kFloat;  ///< kBFloat16: what travels is rounded to it, sums stay float32 (OrderedReduction)
};

/// Sums the flat gradient buffer, each bucket over the ranks that hold its parameters, bucket by bucket,
/// while backward still runs. Buckets are started in the layout's order on every rank, whatever order
/// gradients become ready in: bucket k starts when it and all before it are ready. Between start() and
/// finish() the groups belong to the reducer. Gradients on a GPU: nothing blocks the host, every call only
/// enqueues, and finish() makes the current stream wait; may be captured.
class GradientReducer {
 public:
  /// `layout` and the groups outlive the reducer; `gradients`: a flat buffer of that layout.
  GradientReducer(const ArenaLayout& layout, const at::Tensor& gradients, BucketGroups groups,
                  const ReducerOptions& options = {});
  GradientReducer(const GradientReducer&) = delete;
  GradientReducer& operator=(const GradientReducer&) = delete;

  /// Before the backward whose gradients are to be reduced (the last micro-batch of a step).
  void start();
  /// Gradient `entry` is final: the exchange may begin with it. Each entry exactly once. Any one thread at a
  /// time.
  void mark_ready(std::int64_t entry);
  /// After the last mark_ready(), before finish(): blocks until the first `buckets` are reduced and may be
  /// read, while the others go on. Not for kReduceScatterAllGather, which gathers them together.
  void wait(std::int64_t buckets);
  /// Whether the last bucket comes in halves.
  [[nodiscard]] bool halves_last() const { return halves_last_; }
  /// Before finish(): blocks until every bucket is reduced, of the last one in halves this rank's slice.
  void finish_slices();
  /// After finish_slices(): the others' slices set out. What the group exchanges sooner is asked for before.
  void gather_last();
  /// Blocks until every bucket is reduced; throws if an entry was never marked. Returns the seconds that the
  /// calling threads spent in the exchange, here and in mark_ready(), progress() and wait(): exposed
  /// communication.
  double finish();
  /// Between start() and finish(): makes progress on running reductions; nothing to do for kThread.
  void progress();

 private:
  enum class State { kRunning, kDone };

  [[nodiscard]] bool is_pushed(const at::Tensor& gradients) const;
  void make_ordered(Holders holders);
  [[nodiscard]] std::optional<OrderedReduction>& ordered(Holders holders) {
    return ordered_[static_cast<std::size_t>(holders)];
  }
  [[nodiscard]] Work begin_bucket(std::size_t index);
  void start_rest();
  State advance();
  void help(const std::stop_token& stop);

  const ArenaLayout& layout_;
  BucketGroups groups_;
  ReducerOptions options_;
  std::array<std::optional<OrderedReduction>, 2> ordered_;  ///< in place of the groups' own sums
  std::optional<PushedReduction> pushed_;                   ///< likewise
  std::vector<at::Tensor> tensors_;                         ///< the gradients of each bucket
  std::vector<std::int64_t> bucket_of_entry_;
  std::vector<std::int64_t> missing_;  ///< entries of each bucket that are not ready yet
  std::vector<bool> ready_;
  std::vector<Work> running_;  ///< of the helper between start() and finish(), where there is one
  double exposed_s_ = 0;
  bool halves_last_ = false;
  bool gathering_last_ = false;
  bool active_ = false;

  std::mutex mutex_;
  std::condition_variable_any changed_;
  std::size_t startable_ = 0;  ///< buckets that are ready, counted in the layout's order
  std::exception_ptr fault_;   ///< of the helper
  std::jthread helper_;        ///< last: joined before what it uses goes
};

}  // namespace sluice::parallel
