#pragma once

#include "parallel/communicator.h"
#include "parallel/side_stream.h"

namespace sluice::parallel {

/// What runs on a stream beside the one that computes, which outlives the Work.
class JoinHandle final : public Work::Handle {
 public:
  explicit JoinHandle(SideStream& beside) : beside_(beside) {}
  bool test() override { return true; }
  void wait() override { beside_.join(); }

 private:
  SideStream& beside_;
};

}  // namespace sluice::parallel
