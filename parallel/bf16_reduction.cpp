#include "parallel/bf16_reduction.h"

#include <ATen/ops/empty.h>
#include <c10/util/Exception.h>

#include <memory>

namespace sluice::parallel {
namespace {

class JoinHandle : public Work::Handle {
 public:
  explicit JoinHandle(SideStream& stream) : stream_(stream) {}
  bool test() override { return true; }
  void wait() override { stream_.join(); }

 private:
  SideStream& stream_;
};

at::Tensor scratch(Communicator& communicator, std::int64_t elements, at::Device device) {
  return at::empty({communicator.size() == 1 ? 0 : elements},
                   at::TensorOptions().dtype(at::kBFloat16).device(device));
}

}  // namespace

Bf16Reduction::Bf16Reduction(Communicator& communicator, std::int64_t max_elements, at::Device device)
    : communicator_(communicator),
      device_(device),
      max_elements_(max_elements),
      lanes_{{{SideStream(device), scratch(communicator, max_elements, device),
               scratch(communicator, max_elements, device)},
              {SideStream(device), scratch(communicator, max_elements, device),
               scratch(communicator, max_elements, device)}}} {}

Work Bf16Reduction::all_reduce_async(const at::Tensor& tensor) { return start(tensor, Result::kEverywhere); }
Work Bf16Reduction::reduce_scatter_async(const at::Tensor& tensor) {
  return start(tensor, Result::kOwnChunk);
}

Work Bf16Reduction::start(const at::Tensor& tensor, Result result) {
  TORCH_CHECK(tensor.scalar_type() == at::kFloat && tensor.is_contiguous() && tensor.device() == device_ &&
                  tensor.numel() <= max_elements_ && tensor.numel() % communicator_.size() == 0,
              "Bf16Reduction: needs contiguous float32 on ", device_, ", a multiple of ",
              communicator_.size(), " and at most ", max_elements_, " elements, got ", tensor.scalar_type(),
              tensor.sizes(), " on ", tensor.device());
  if (communicator_.size() == 1) return Work();
  Lane& lane = lanes_[next_lane_++ % lanes_.size()];
  lane.stream.run([&] { exchange(tensor, lane, result); });
  return Work(std::make_unique<JoinHandle>(lane.stream));
}

void Bf16Reduction::exchange(const at::Tensor& tensor, const Lane& lane, Result result) {
  const std::int64_t count = tensor.numel();
  const std::int64_t chunk = count / communicator_.size();
  const at::Tensor flat = tensor.view({count});
  const at::Tensor send = lane.send.narrow(0, 0, count);
  const at::Tensor receive = lane.receive.narrow(0, 0, count);
  send.copy_(flat);
  communicator_.all_to_all_async(send, receive).wait();
  const at::Tensor own = flat.narrow(0, communicator_.rank() * chunk, chunk);
  own.copy_(receive.narrow(0, 0, chunk));
  for (std::int64_t rank = 1; rank < communicator_.size(); ++rank)
    own.add_(receive.narrow(0, rank * chunk, chunk));  // float32 += bfloat16
  if (result == Result::kOwnChunk) return;
  send.narrow(0, communicator_.rank() * chunk, chunk).copy_(own);
  communicator_.all_gather_async(send).wait();
  flat.copy_(send);
}

}  // namespace sluice::parallel
