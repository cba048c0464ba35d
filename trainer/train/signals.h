#pragma once

#include <csignal>
#include <thread>

namespace sluice::train {

/// Where handlers run. kApart: not on the thread that made the StopSignals, nor on those that it begins
/// later. A handler that runs on a thread in a product of oneDNN's corrupts memory (LibTorch 2.11, AMD with
/// AVX-512: with a timer of 1 ms training ended within some hundred steps; with MKL's products never). A
/// program that is started meanwhile has the signals blocked.
enum class Handlers { kAnywhere, kApart };

/// While it lives, SIGTERM, SIGINT and SIGUSR1 set a flag; from the first of them on, each has its default
/// action again, so that a second one ends a program that does not get to its next step. One at a time.
class StopSignals {
 public:
  explicit StopSignals(Handlers handlers = Handlers::kAnywhere);
  ~StopSignals();  ///< default actions
  StopSignals(const StopSignals&) = delete;
  StopSignals& operator=(const StopSignals&) = delete;

  [[nodiscard]] bool requested() const { return first() != 0; }
  /// The signal that came first; 0: none.
  [[nodiscard]] int first() const;

 private:
  sigset_t mask_ = {};     ///< of the thread, before
  std::jthread receiver_;  ///< of signals that others block; none: kAnywhere
};

}  // namespace sluice::train
