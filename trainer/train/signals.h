#pragma once

namespace sluice::train {

/// While it lives, SIGTERM, SIGINT and SIGUSR1 set a flag; from the first of them on, each has its default
/// action again, so that a second one ends a program that does not get to its next step. One at a time.
class StopSignals {
 public:
  StopSignals();
  ~StopSignals();  ///< default actions
  StopSignals(const StopSignals&) = delete;
  StopSignals& operator=(const StopSignals&) = delete;

  [[nodiscard]] bool requested() const { return first() != 0; }
  /// The signal that came first; 0: none.
  [[nodiscard]] int first() const;
};

}  // namespace sluice::train
