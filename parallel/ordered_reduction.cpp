#include "parallel/ordered_reduction.h"

#include <ATen/ops/add.h>
#include <c10/util/Exception.h>

#include <memory>

#include "parallel/join_handle.h"

namespace sluice::parallel {
OrderedReduction::OrderedReduction(Communicator& communicator, std::int64_t max_elements, at::ScalarType wire,
                                   at::Device device)
    : communicator_(communicator),
      device_(device),
      max_elements_(max_elements),
      wire_(wire),
      lanes_{make_lane(), make_lane()} {
  TORCH_CHECK(wire == at::kFloat || wire == at::kBFloat16,
              "OrderedReduction: float32 or bfloat16 travels, not ", wire);
}

OrderedReduction::Lane OrderedReduction::make_lane() const {
  const auto scratch = [this](std::int64_t elements) {
    return communicator_.exchange_buffer(communicator_.size() == 1 ? 0 : elements, wire_, device_);
  };
  return {SideStream(device_), scratch(wire_ == at::kFloat ? 0 : max_elements_), scratch(max_elements_)};
}

Work OrderedReduction::all_reduce_async(const at::Tensor& tensor) {
  return start(tensor, Result::kEverywhere);
}
Work OrderedReduction::reduce_scatter_async(const at::Tensor& tensor) {
  return start(tensor, Result::kOwnChunk);
}

Work OrderedReduction::start(const at::Tensor& tensor, Result result) {
  TORCH_CHECK(tensor.scalar_type() == at::kFloat && tensor.is_contiguous() && tensor.device() == device_ &&
                  tensor.numel() <= max_elements_ && tensor.numel() % communicator_.size() == 0,
              "OrderedReduction: needs contiguous float32 on ", device_, ", a multiple of ",
              communicator_.size(), " and at most ", max_elements_, " elements, got ", tensor.scalar_type(),
              tensor.sizes(), " on ", tensor.device());
  if (communicator_.size() == 1) return Work();
  Lane& lane = lanes_[next_lane_++ % lanes_.size()];
  lane.stream.run([&] { exchange(tensor.view({tensor.numel()}), lane, result); });
  return Work(std::make_unique<JoinHandle>(lane.stream));
}

void OrderedReduction::exchange(const at::Tensor& flat, const Lane& lane, Result result) {
  const std::int64_t ranks = communicator_.size();
  const std::int64_t chunk = flat.numel() / ranks;
  const bool rounds = wire_ != at::kFloat;
  const at::Tensor sent = rounds ? lane.rounded.narrow(0, 0, flat.numel()) : flat;
  const at::Tensor received = lane.received.narrow(0, 0, flat.numel());
  const auto part = [&](const at::Tensor& tensor, std::int64_t rank) {
    return tensor.narrow(0, rank * chunk, chunk);
  };
  if (rounds) sent.copy_(flat);
  communicator_.all_to_all_async(sent, received).wait();
  at::Tensor own = part(flat, communicator_.rank());
  if (rounds) {
    own.copy_(part(received, 0));
    own.add_(part(received, 1));  // float32 += bfloat16
  } else {
    at::add_out(own, part(received, 0), part(received, 1));
  }
  for (std::int64_t rank = 2; rank < ranks; ++rank) own.add_(part(received, rank));
  if (result == Result::kOwnChunk) return;
  if (rounds) part(sent, communicator_.rank()).copy_(own);
  communicator_.all_gather_async(sent).wait();
  if (rounds) flat.copy_(sent);
}

}  // namespace sluice::parallel
