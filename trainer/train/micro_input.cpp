#include "trainer/train/micro_input.h"

#include <ATen/ops/zeros.h>
#include <c10/util/Exception.h>

#include <cstring>

#include "parallel/device_stream.h"

namespace sluice::train {
namespace {

at::Tensor zeroed(at::Device device, std::int64_t bytes) {
  if (!device.is_cpu()) return at::zeros({bytes}, at::TensorOptions().dtype(at::kByte).device(device));
  return parallel::pinned_empty({bytes}, at::kByte).zero_();
}

}  // namespace

MicroInput::MicroInput(at::Device device, std::int64_t batch, std::int64_t row_tokens) {
  constexpr std::int64_t kWide = 8;
  constexpr std::int64_t kNarrow = 4;
  constexpr std::int64_t kNumbers = kernels::kUpdateScalars + kernels::kAgreed;
  bytes = zeroed(device, kWide * (kNumbers + 1) + kNarrow * (2 + batch * row_tokens));
  std::int64_t done = 0;
  const auto next = [&](std::int64_t count, at::ScalarType type) {
    const std::int64_t size = count * static_cast<std::int64_t>(c10::elementSize(type));
    done += size;
    return bytes.narrow(0, done - size, size).view(type);
  };
  scalars = next(kernels::kUpdateScalars, at::kDouble);
  start = next(kernels::kAgreed, at::kDouble);
  first_sample = next(1, at::kLong);
  rows = next(2, at::kInt).narrow(0, 0, 1);  // and four bytes that keep windows aligned
  windows = next(batch * row_tokens, at::kInt).view({batch, row_tokens});
}

void MicroInput::fill(const kernels::UpdateScalars& update, const kernels::Agreed& begin,
                      const dataio::Batch& samples) const {
  TORCH_CHECK(samples.tokens.size() == static_cast<std::size_t>(windows.numel()), "a micro-batch of ",
              samples.tokens.size(), " tokens for ", windows.sizes());
  const auto put = [](const at::Tensor& to, const void* from, std::size_t size) {
    std::memcpy(to.mutable_data_ptr(), from, size);
  };
  const std::int64_t first = samples.samples.first;
  const auto count = static_cast<std::int32_t>(samples.rows);
  put(scalars, &update, sizeof update);
  put(start, &begin, sizeof begin);
  put(first_sample, &first, sizeof first);
  put(rows, &count, sizeof count);
  put(windows, samples.tokens.data(), samples.tokens.size_bytes());
}

}  // namespace sluice::train
