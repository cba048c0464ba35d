#pragma once

#include <cstddef>

#include "parallel/communicator.h"

namespace sluice::parallel {

/// Memory that the ranks of one host have in common, threads or processes: POSIX shared memory, whose name is
/// gone once all have it, so that nothing stays behind whatever becomes of them.
class SharedMemory {
 public:
  /// Collective over `ranks`, all of one host. Zeros. Where the host has no room, or ranks do not see one
  /// another's memory, throws on all ranks alike: std::runtime_error with the bytes and the system's reason,
  /// or PeerError.
  SharedMemory(Communicator& ranks, std::size_t bytes);
  ~SharedMemory();
  SharedMemory(const SharedMemory&) = delete;
  SharedMemory& operator=(const SharedMemory&) = delete;

  [[nodiscard]] std::byte* begin() const { return begin_; }  ///< of a page
  [[nodiscard]] std::size_t bytes() const { return bytes_; }

 private:
  std::byte* begin_ = nullptr;
  std::size_t bytes_;
};

}  // namespace sluice::parallel
