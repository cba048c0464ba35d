#include "parallel/null_communicator.h"

#include <ATen/ops/zeros.h>

#include <algorithm>
#include <exception>
#include <utility>

#include "parallel/join_handle.h"
#include "parallel/side_stream.h"

namespace sluice::parallel {
namespace {

/// As much of `from` as there is room for in `to`; the rest of it is zero.
void fill_from(const at::Tensor& to, const at::Tensor& from) {
  const at::Tensor room = to.view({-1});
  const std::int64_t count = std::min(room.numel(), from.numel());
  room.narrow(0, 0, count).copy_(from.view({-1}).narrow(0, 0, count));
  room.narrow(0, count, room.numel() - count).zero_();
}

class NullCommunicator final : public Communicator {
 public:
  NullCommunicator(Communicator& host, c10::Device device, Movers engines)
      : Communicator(host), host_(host), device_(device), engines_(engines), beside_(device) {}
  NullCommunicator(std::unique_ptr<Communicator> host, c10::Device device, Movers engines)
      : NullCommunicator(*host, device, engines) {
    kept_ = std::move(host);
  }

  [[nodiscard]] std::int64_t rank() const override { return host_.rank(); }
  [[nodiscard]] std::int64_t size() const override { return host_.size(); }
  [[nodiscard]] std::string name() const override { return "null"; }
  [[nodiscard]] Place place() const override { return host_.place(); }
  [[nodiscard]] bool has_copy_engines() const override {
    return !device_.is_cpu() && engines_ == Movers::kCopyEngines;
  }
  [[noreturn]] void abort(int exit_code) override {
    host_.abort(exit_code);
    std::terminate();  // not reached: GCC does not see that no override returns
  }

 private:
  [[nodiscard]] bool takes(at::Device /*device*/) const override { return true; }

  template <typename Copy>
  std::unique_ptr<Work::Handle> beside(const Copy& copy) {
    beside_.run(copy);
    return std::make_unique<JoinHandle>(beside_);
  }
  [[nodiscard]] at::Tensor chunk(const at::Tensor& tensor, std::int64_t index) const {
    const std::int64_t elements = tensor.numel() / size();
    return tensor.view({-1}).narrow(0, index * elements, elements);
  }
  template <typename Visit>
  std::unique_ptr<Work::Handle> with_others(const Visit& visit) {
    return beside([&] {
      for (std::int64_t other = 0; other < size(); ++other)
        if (other != rank()) visit(other);
    });
  }

  std::unique_ptr<Work::Handle> do_all_reduce(const at::Tensor& tensor, ReduceOp /*op*/) override {
    return beside([&] { tensor.mul_(1); });
  }
  std::unique_ptr<Work::Handle> do_reduce_scatter(const at::Tensor& tensor) override {
    return with_others([&](std::int64_t other) { chunk(tensor, rank()).add_(chunk(tensor, other)); });
  }
  std::unique_ptr<Work::Handle> do_all_gather_tensor(const at::Tensor& tensor) override {
    return with_others([&](std::int64_t other) { chunk(tensor, other).copy_(chunk(tensor, rank())); });
  }
  std::unique_ptr<Work::Handle> do_all_to_all(const at::Tensor& send, const at::Tensor& receive) override {
    return beside([&] { receive.copy_(send); });
  }
  std::unique_ptr<Work::Handle> do_exchange(const at::Tensor& send, std::int64_t /*to*/,
                                            const at::Tensor& receive, std::int64_t /*from*/) override {
    return beside([&] { fill_from(receive, send); });
  }
  std::unique_ptr<Communicator> do_split(std::int64_t part) override {
    return make_null_communicator(host_.split(part), device_);
  }
  void do_broadcast(const at::Tensor& /*tensor*/, std::int64_t /*root*/) override {}
  std::string do_broadcast_bytes(std::string bytes, std::int64_t root) override {
    return host_.broadcast(std::move(bytes), root);
  }
  std::vector<std::string> do_all_gather(std::string_view bytes) override { return host_.all_gather(bytes); }
  void do_barrier() override { host_.barrier(); }
  at::Tensor do_exchange_buffer(std::int64_t elements, at::ScalarType dtype, at::Device device) override {
    return at::zeros({elements}, at::TensorOptions().dtype(dtype).device(device));
  }

  std::unique_ptr<Communicator> kept_;
  Communicator& host_;
  c10::Device device_;
  Movers engines_;
  SideStream beside_;
};

}  // namespace

std::unique_ptr<Communicator> make_null_communicator(std::unique_ptr<Communicator> host, c10::Device device,
                                                     Movers engines) {
  if (host->size() == 1) return host;
  return std::make_unique<NullCommunicator>(std::move(host), device, engines);
}
std::unique_ptr<Communicator> make_null_communicator(Communicator& host, c10::Device device, Movers engines) {
  if (host.size() == 1) return make_local_communicator();
  return std::make_unique<NullCommunicator>(host, device, engines);
}

}  // namespace sluice::parallel
