#include "parallel/agree.h"

#include <exception>

namespace sluice::parallel {

void on_all_ranks(Communicator& communicator, const std::function<void()>& work) {
  std::exception_ptr fault;
  std::string outcome;  // empty: done; else a mark and the reason, which itself may be empty
  try {
    work();
  } catch (const std::exception& error) {
    fault = std::current_exception();
    outcome = std::string("!") + error.what();
  } catch (...) {
    fault = std::current_exception();
    outcome = "!unknown exception";
  }
  const auto outcomes = communicator.all_gather(outcome);
  if (fault) std::rethrow_exception(fault);
  for (std::size_t rank = 0; rank < outcomes.size(); ++rank)
    if (!outcomes[rank].empty())
      throw PeerError("rank " + std::to_string(rank) + " failed: " + outcomes[rank].substr(1));
}

}  // namespace sluice::parallel
