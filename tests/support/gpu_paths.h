#pragma once

#include <functional>

namespace sluice::tests {

/// How work reaches the GPU: operator by operator, or captured in a graph.
enum class Path { kDirect, kGraph };

/// Runs `work` on a stream of its own, for kGraph captured and replayed twice, and waits for the GPU.
/// `refill` puts the inputs in place before each run.
void run_on_gpu(Path path, const std::function<void()>& refill, const std::function<void()>& work);

}  // namespace sluice::tests
