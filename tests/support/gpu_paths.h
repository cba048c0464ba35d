#pragma once

#include <ATen/core/Tensor.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <functional>
#include <string>

namespace sluice::tests {

/// How work reaches the GPU: operator by operator, or captured in a graph.
enum class Path { kDirect, kGraph };

[[nodiscard]] std::string path_name(const testing::TestParamInfo<Path>& path);

/// A suite that goes both ways.
class OnBothPaths : public testing::TestWithParam<Path> {
 protected:
  /// Zeros on this rank's GPU, there before run_on_gpu's work begins.
  static at::Tensor on_gpu(std::int64_t count, at::ScalarType type);
};

/// Runs `work` on a stream of its own, for kGraph captured and replayed twice, and waits for the GPU.
/// `refill` puts the inputs in place before each run.
void run_on_gpu(Path path, const std::function<void()>& refill, const std::function<void()>& work);

}  // namespace sluice::tests
