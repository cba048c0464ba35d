#pragma once

#include <functional>
#include <stdexcept>
#include <string>

#include "parallel/communicator.h"

namespace sluice::parallel {

/// Another rank failed in a step of set-up that all ranks took together; what() names the rank and its
/// reason.
class PeerError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// Runs `work` on every rank and agrees on the outcome before anyone throws: if it threw anywhere, the ranks
/// where it threw rethrow their own exception and the others throw PeerError naming the first faulty rank and
/// its reason. `work` itself uses no collective operation: a rank that threw would not join it.
void on_all_ranks(Communicator& communicator, const std::function<void()>& work);

}  // namespace sluice::parallel
