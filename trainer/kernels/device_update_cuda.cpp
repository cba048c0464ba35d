#include <ATen/cuda/CUDAContextLight.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <c10/util/Exception.h>

#include <algorithm>
#include <cstddef>

#include "trainer/kernels/cross_entropy.h"
#include "trainer/kernels/cuda_launch.h"
#include "trainer/kernels/device_update.h"

namespace sluice::kernels {
namespace {

static_assert(offsetof(UpdateScalars, clip) == launch::kClip * sizeof(double));
static_assert(offsetof(UpdateScalars, decay_in_gradient) == 8 * sizeof(double));
static_assert(offsetof(Decision, scale) == launch::kScale * sizeof(double));
static_assert(offsetof(Decision, go) == launch::kGo * sizeof(double));
static_assert(kDecayBlock == launch::kDecayElements);
static_assert(static_cast<int>(BlockUpdate::kDecay) == launch::kDecayedBlock &&
              static_cast<int>(BlockUpdate::kNone) == launch::kIdleBlock);

/// Contiguous, on a GPU, of this type and at least `least` elements.
void check(const at::Tensor& tensor, const char* name, at::ScalarType dtype, std::int64_t least) {
  TORCH_CHECK(
      tensor.is_cuda() && tensor.is_contiguous() && tensor.scalar_type() == dtype && tensor.numel() >= least,
      name, ": needed are ", least, " contiguous elements of ", dtype, " on a GPU, given is ", tensor.sizes(),
      " of ", tensor.scalar_type(), " on ", tensor.device());
}

void check_aligned(const at::Tensor& tensor, const char* name) {
  TORCH_CHECK(reinterpret_cast<std::uintptr_t>(tensor.const_data_ptr()) % 16 == 0, name,
              " does not start at a multiple of 16 bytes");
}

cudaStream_t stream_of(const at::Tensor& tensor) {
  return c10::cuda::getCurrentCUDAStream(tensor.device().index()).stream();
}

void check_slice(const UpdateSlice& slice) {
  const std::int64_t count = slice.parameters.numel();
  for (const auto& [tensor, name] :
       {std::pair{&slice.parameters, "parameters"}, std::pair{&slice.gradients, "gradients"},
        std::pair{&slice.first, "first moments"}, std::pair{&slice.second, "second moments"}}) {
    check(*tensor, name, at::kFloat, count);
    check_aligned(*tensor, name);
    TORCH_CHECK(tensor->numel() == count, name, ": ", tensor->numel(), ", parameters: ", count);
  }
  check(slice.blocks, "how blocks are updated", at::kByte, (count + kDecayBlock - 1) / kDecayBlock);
  if (slice.compute.defined()) {
    check(slice.compute, "compute", at::kBFloat16, count);
    check_aligned(slice.compute, "compute");
  }
  if (slice.copy.defined()) {
    check(slice.copy, "the copy", slice.compute.defined() ? at::kBFloat16 : at::kFloat, count);
    check_aligned(slice.copy, "the copy");
  }
}

launch::AdamwSlice pointers_of(const UpdateSlice& slice) {
  return {.parameters = slice.parameters.mutable_data_ptr<float>(),
          .gradients = slice.gradients.const_data_ptr<float>(),
          .first = slice.first.mutable_data_ptr<float>(),
          .second = slice.second.mutable_data_ptr<float>(),
          .compute_bf16 = slice.compute.defined() ? slice.compute.mutable_data_ptr() : nullptr,
          .blocks = slice.blocks.const_data_ptr<std::uint8_t>(),
          .copy = slice.copy.defined() ? slice.copy.mutable_data_ptr() : nullptr,
          .count = slice.parameters.numel()};
}

}  // namespace

SliceSums::SliceSums(const std::vector<Slice>& slices, const at::Tensor& blocks) : blocks_(blocks) {
  constexpr std::int64_t kColumns = launch::kSliceColumns;
  constexpr std::int64_t kElements = launch::kElementsPerBlock;
  const auto on_device = [&](const std::vector<std::int64_t>& rows) {
    const auto count = static_cast<std::int64_t>(rows.size()) / kColumns;
    at::Tensor table = at::empty({count, kColumns}, at::TensorOptions().dtype(at::kLong));
    std::copy(rows.begin(), rows.end(), table.mutable_data_ptr<std::int64_t>());
    return table.to(blocks.device());
  };
  for (const Slice& slice : slices) {
    TORCH_CHECK(0 <= slice.begin && slice.begin % 4 == 0 && slice.begin <= slice.end && slice.index >= 0,
                "slice [", slice.begin, ", ", slice.end, ") with its sum at ", slice.index);
    needed_flat_ = std::max(needed_flat_, slice.end);
    needed_sums_ = std::max(needed_sums_, slice.index + 1);
  }
  check(blocks, "how blocks are updated", at::kByte, (needed_flat_ + kDecayBlock - 1) / kDecayBlock);
  const at::Tensor flags = blocks.cpu();
  const auto* const flag = flags.const_data_ptr<std::uint8_t>();
  std::vector<std::int64_t> table, work;
  std::int64_t block = 0;
  for (const Slice& slice : slices) {
    table.insert(table.end(), {slice.begin, slice.end, slice.index, block});
    for (std::int64_t begin = slice.begin; begin < slice.end; begin += kElements, ++block) {
      const std::int64_t end = std::min(slice.end, begin + kElements);
      const auto* const first = flag + begin / kDecayBlock;
      const auto* const last = flag + (end + kDecayBlock - 1) / kDecayBlock;
      const auto idle = std::count(first, last, static_cast<std::uint8_t>(BlockUpdate::kNone));
      if (idle < last - first) work.insert(work.end(), {begin, end, block, idle > 0 ? 1 : 0});
    }
  }
  table_ = on_device(table);
  work_ = on_device(work);
  partials_ = at::zeros({block}, at::TensorOptions().dtype(at::kDouble).device(blocks.device()));
}

void SliceSums::run(const at::Tensor& flat_f32, const at::Tensor& sums_f64) const {
  check(flat_f32, "the flat buffer", at::kFloat, needed_flat_);
  check_aligned(flat_f32, "the flat buffer");
  check(sums_f64, "the sums", at::kDouble, needed_sums_);
  const c10::cuda::CUDAGuard guard(flat_f32.device());
  launch::slice_sums(flat_f32.const_data_ptr<float>(), blocks_.const_data_ptr<std::uint8_t>(),
                     {.table = table_.const_data_ptr<std::int64_t>(),
                      .slices = table_.size(0),
                      .work = work_.const_data_ptr<std::int64_t>(),
                      .blocks = work_.size(0)},
                     partials_.mutable_data_ptr<double>(), sums_f64.mutable_data_ptr<double>(),
                     stream_of(flat_f32));
}

void decide_update(const at::Tensor& slice_sums_f64, const at::Tensor& agreed_f64,
                   const at::Tensor& scalars_f64, const at::Tensor& decision_f64) {
  check(slice_sums_f64, "the slices' sums", at::kDouble, 0);
  check(agreed_f64, "what was agreed on", at::kDouble, kAgreed);
  check(scalars_f64, "the update's scalars", at::kDouble, kUpdateScalars);
  check(decision_f64, "the decision", at::kDouble, kDecision);
  const c10::cuda::CUDAGuard guard(decision_f64.device());
  launch::decide_update(slice_sums_f64.const_data_ptr<double>(), slice_sums_f64.numel(),
                        agreed_f64.const_data_ptr<double>(), scalars_f64.const_data_ptr<double>(),
                        decision_f64.mutable_data_ptr<double>(), stream_of(decision_f64));
}

void adamw_update(const std::vector<UpdateSlice>& slices, const at::Tensor& scalars_f64,
                  const at::Tensor& decision_f64) {
  check(scalars_f64, "the update's scalars", at::kDouble, kUpdateScalars);
  check(decision_f64, "the decision", at::kDouble, kDecision);
  for (const UpdateSlice& slice : slices) check_slice(slice);
  const c10::cuda::CUDAGuard guard(decision_f64.device());
  launch::AdamwArguments arguments{};
  arguments.scalars = scalars_f64.const_data_ptr<double>();
  arguments.decision = decision_f64.const_data_ptr<double>();
  const auto launch_them = [&] {
    if (arguments.count > 0) launch::adamw_update(arguments, stream_of(decision_f64));
    arguments.count = 0;
    arguments.blocks = 0;
  };
  for (const UpdateSlice& slice : slices) {
    if (slice.parameters.numel() == 0) continue;
    arguments.slices[arguments.count] = pointers_of(slice);
    arguments.first_block[arguments.count++] = arguments.blocks;
    arguments.blocks += launch::adamw_blocks(slice.parameters.numel());
    if (arguments.count == launch::kAdamwSlices) launch_them();
  }
  launch_them();
}

void split_windows(const at::Tensor& windows_i32, const at::Tensor& rows_i32, const at::Tensor& tokens_i64,
                   const at::Tensor& targets_i64) {
  TORCH_CHECK(windows_i32.dim() == 2 && tokens_i64.dim() == 2 && windows_i32.size(1) > tokens_i64.size(1),
              "windows of shape ", windows_i32.sizes(), " for tokens of shape ", tokens_i64.sizes());
  const std::int64_t batch = windows_i32.size(0);
  const std::int64_t length = tokens_i64.size(1);
  check(windows_i32, "windows", at::kInt, 0);
  check(rows_i32, "the number of rows", at::kInt, 1);
  check(tokens_i64, "tokens", at::kLong, batch * length);
  check(targets_i64, "targets", at::kLong, batch * length);
  const c10::cuda::CUDAGuard guard(windows_i32.device());
  launch::split_windows(windows_i32.const_data_ptr<std::int32_t>(), rows_i32.const_data_ptr<std::int32_t>(),
                        tokens_i64.mutable_data_ptr<std::int64_t>(),
                        targets_i64.mutable_data_ptr<std::int64_t>(), batch, length, windows_i32.size(1),
                        kIgnoredTarget, stream_of(windows_i32));
}

}  // namespace sluice::kernels
