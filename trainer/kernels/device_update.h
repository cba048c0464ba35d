#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

// What a training step on a GPU does beside forward and backward. Everything here is enqueued on the current
// CUDA stream, can be captured in a CUDA graph, reads from device memory what changes from step to step, and
// gives the same bits on every run: no atomic sums, no order that depends on the grid. A build without CUDA
// sources has these functions too; they throw c10::Error. So do all for tensors of a wrong type, shape or
// device.
namespace sluice::kernels {

/// One update's numbers: the host fills them in (optim::update_scalars), the device reads them as
/// kUpdateScalars doubles.
struct UpdateScalars {
  double step_size = 0;          ///< lr / (1 - beta1^t)
  double second_correction = 1;  ///< 1 / sqrt(1 - beta2^t)
  double beta1 = 0;
  double beta2 = 0;
  double one_minus_beta1 = 1;
  double one_minus_beta2 = 1;
  double eps = 0;
  double keep = 1;               ///< factor on decayed parameters: 1 - lr * weight_decay (AdamW), 1 (Adam)
  double decay_in_gradient = 0;  ///< times a decayed parameter, added to its gradient: weight_decay (Adam)
  double clip = 0;               ///< greatest gradient norm; 0: none
};
inline constexpr std::int64_t kUpdateScalars = sizeof(UpdateScalars) / sizeof(double);

/// What the ranks agreed on in one sum: kAgreed doubles on the device.
struct Agreed {
  double loss_sum = 0;
  double faults = 0;  ///< ranks that ask for this step not to be taken
  double wishes = 0;  ///< ranks that wish to stop
};
inline constexpr std::int64_t kAgreed = sizeof(Agreed) / sizeof(double);

/// What decide_update found: kDecision doubles on the device, which the host may copy and read as this.
struct Decision {
  double norm = 0;  ///< Euclidean norm of the gradients
  double loss_sum = 0;
  double faults = 0;
  double wishes = 0;
  double scale = 1;  ///< clipping factor of the gradients
  double go = 0;     ///< 1: norm and loss are finite and no rank objects; 0: nothing is to be updated
};
inline constexpr std::int64_t kDecision = sizeof(Decision) / sizeof(double);

enum class BlockUpdate : std::uint8_t {
  kPlain = 0,
  kDecay = 1,  ///< with weight decay
  kNone = 2,   ///< nothing of it is read or written
};
inline constexpr std::int64_t kDecayBlock = 32;

/// A run of a flat buffer and where its sum of squares belongs.
struct Slice {
  std::int64_t begin = 0;  ///< elements; a multiple of 4
  std::int64_t end = 0;
  std::int64_t index = 0;  ///< of its sum in the vector of sums
};

/// Sums of squares of slices of one flat buffer, one double each, in two launches for any number of slices. A
/// slice's elements are squared and added in double, over fixed blocks counted from its start, the blocks'
/// sums in a fixed tree: its sum depends on nothing but its elements.
class SliceSums {
 public:
  /// Allocates on the device of `blocks`, uint8, a BlockUpdate for each kDecayBlock elements of the flat
  /// buffer: those of kNone are zero, and not read. Slices may overlap or be empty. Throws c10::Error for a
  /// bad slice.
  SliceSums(const std::vector<Slice>& slices, const at::Tensor& blocks);

  /// flat_f32: 16-byte aligned; sums_f64 [>= 1 + the largest index]: elements of no slice are left alone.
  void run(const at::Tensor& flat_f32, const at::Tensor& sums_f64) const;

 private:
  at::Tensor blocks_;
  at::Tensor table_;     ///< int64 [slices, 4]: begin, end, index, first block
  at::Tensor work_;      ///< int64 [blocks of which something is read, 4]: begin, end, block, whether in part
  at::Tensor partials_;  ///< double [blocks]: those of which nothing is read stay zero
  std::int64_t needed_flat_ = 0;
  std::int64_t needed_sums_ = 0;
};

/// decision_f64 [kDecision] from the slices' sums (any number, added in a fixed tree), agreed_f64 [kAgreed]
/// and the clip of scalars_f64 [kUpdateScalars].
void decide_update(const at::Tensor& slice_sums_f64, const at::Tensor& agreed_f64,
                   const at::Tensor& scalars_f64, const at::Tensor& decision_f64);

/// The flat slices of one update, all of N elements and 16-byte aligned. Gradients are not changed.
struct UpdateSlice {
  at::Tensor parameters;  ///< float32
  at::Tensor gradients;   ///< float32
  at::Tensor first;       ///< float32
  at::Tensor second;      ///< float32
  at::Tensor compute;     ///< bfloat16, gets the new parameters rounded; or undefined
  at::Tensor blocks;      ///< uint8 [ceil(N / kDecayBlock)]: a BlockUpdate each
  /// Gets what is computed with, too: `compute`, or if undefined parameters; or undefined.
  at::Tensor copy = {};
};

/// One AdamW or Adam update (optim::AdamW's formula in its order, in float32, products and sums not fused:
/// the same bits as on the CPU) of slices on one GPU, a launch for some dozens. Writes nothing at all if
/// decision.go is 0.
void adamw_update(const std::vector<UpdateSlice>& slices, const at::Tensor& scalars_f64,
                  const at::Tensor& decision_f64);

/// windows_i32 [B, w] -> tokens_i64 [B, n] (its first n columns), targets_i64 [B, n] (its last n), w > n.
/// Targets of rows at or after rows_i32[0] are kIgnoredTarget; their tokens are copied like all others.
void split_windows(const at::Tensor& windows_i32, const at::Tensor& rows_i32, const at::Tensor& tokens_i64,
                   const at::Tensor& targets_i64);

}  // namespace sluice::kernels
