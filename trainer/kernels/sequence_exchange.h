#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <utility>

#include "trainer/kernels/sequence_rows.h"

namespace sluice::kernels {

/// How the ranks that share a sequence make the product over positions (sharded_mixing.h).
enum class ExchangeMode {
  kAllToAll,  ///< each gets all positions of some channels
  kRowShard,  ///< each gets all positions of all channels, and multiplies its rows of W
  kRing,      ///< likewise block by block, each on its way while the one before is multiplied
};

/// What a model needs of the ranks that share its sequences: given to it, so that kernels know of no
/// transport. All ranks call the same in the same order. Tensors are contiguous, of one type on all ranks.
class SequenceExchange {
 public:
  /// A message on its way. The tensors live until wait() has returned. On a GPU it follows what the current
  /// stream held when it was started, and wait() makes that stream wait, not the host.
  class Passing {
   public:
    virtual ~Passing() = default;
    virtual void wait() = 0;
  };

  virtual ~SequenceExchange() = default;
  SequenceExchange(const SequenceExchange&) = delete;
  SequenceExchange& operator=(const SequenceExchange&) = delete;

  /// Memory that messages leave from and come to fastest.
  enum class Staging { kGathered, kSummed };

  [[nodiscard]] virtual std::int64_t rank() const = 0;
  [[nodiscard]] const SequenceRows& rows() const { return rows_; }
  [[nodiscard]] ExchangeMode mode() const { return mode_; }

  /// Unset memory for what is given to start_all_gather or start_reduce_scatter. The next that is asked for
  /// the same use may be the same memory. Collective.
  [[nodiscard]] virtual at::Tensor staging(Staging use, at::IntArrayRef sizes,
                                           const at::TensorOptions& options) const = 0;
  /// Whether messages of staged memory leave a GPU's cores to products.
  [[nodiscard]] virtual bool spares_cores() const = 0;
  /// parts [ranks, ...]: part r becomes rank r's. In place.
  [[nodiscard]] virtual std::unique_ptr<Passing> start_all_gather(const at::Tensor& parts) const = 0;
  void all_gather(const at::Tensor& parts) const { start_all_gather(parts)->wait(); }
  /// parts [ranks, ...]: part rank() becomes its sum over ranks, once wait() has returned; the others are
  /// unspecified. In place.
  [[nodiscard]] virtual std::unique_ptr<Passing> start_reduce_scatter(const at::Tensor& parts) const = 0;
  void reduce_scatter(const at::Tensor& parts) const { start_reduce_scatter(parts)->wait(); }
  /// Part r of `send` [ranks, ...] goes to rank r; part r of the result comes from rank r.
  [[nodiscard]] virtual at::Tensor all_to_all(const at::Tensor& send) const = 0;
  /// `send` goes to rank `to`, `receive` comes from rank `from`; any lengths that agree.
  [[nodiscard]] virtual std::unique_ptr<Passing> pass(const at::Tensor& send, std::int64_t to,
                                                      const at::Tensor& receive, std::int64_t from) const = 0;

 protected:
  SequenceExchange(SequenceRows rows, ExchangeMode mode) : rows_(std::move(rows)), mode_(mode) {}

 private:
  SequenceRows rows_;
  ExchangeMode mode_;
};

}  // namespace sluice::kernels
