#include "parallel/nccl_communicator.h"

#include <ATen/ops/add.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/maximum.h>
#include <ATen/ops/minimum.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <c10/util/Exception.h>
#include <cuda_runtime_api.h>

#include <algorithm>
#include <exception>
#include <memory>
#include <utility>
#include <vector>

#include "parallel/host_relay_cuda.h"
#include "parallel/nccl_group.h"
#include "parallel/nccl_memory.h"
#include "parallel/stream_work_cuda.h"

namespace sluice::parallel {
namespace {

ncclDataType_t nccl_type(at::ScalarType type) {
  switch (type) {
    case at::kFloat:
      return ncclFloat32;
    case at::kDouble:
      return ncclFloat64;
    case at::kBFloat16:
      return ncclBfloat16;
    case at::kLong:
      return ncclInt64;
    case at::kInt:
      return ncclInt32;
    default:
      TORCH_CHECK(false, "NCCL: no sums of type ", type);
  }
}

ncclRedOp_t nccl_op(ReduceOp op) {
  switch (op) {
    case ReduceOp::kSum:
      return ncclSum;
    case ReduceOp::kMin:
      return ncclMin;
    case ReduceOp::kMax:
      return ncclMax;
  }
  TORCH_CHECK(false, "ReduceOp has no value ", static_cast<int>(op));
}

class NothingToDo : public Work::Handle {
 public:
  bool test() override { return true; }
  void wait() override {}
};

/// An exchange of the host's group.
class HostHandle : public Work::Handle {
 public:
  explicit HostHandle(Work work) : work_(std::move(work)) {}
  bool test() override { return work_.test(); }
  void wait() override { work_.wait(); }

 private:
  Work work_;
};

std::unique_ptr<Work::Handle> from_host(Work work) { return std::make_unique<HostHandle>(std::move(work)); }

class NcclCommunicator final : public Communicator {
 public:
  NcclCommunicator(Communicator& host, at::Device device, NcclOptions options)
      : Communicator(host),
        host_(host),
        device_(device),
        stream_(c10::cuda::getStreamFromPool(/*isHighPriority=*/true, device.index())),
        group_(host, options),
        memory_(group_, host, device, options.movers),
        movers_(options.movers) {
    if (options.movers != Movers::kHostMemory || !are_on_one_host(host)) return;
    relay_ = std::make_unique<HostRelay>(host, device);
    gathered_ =
        at::empty({host.size() * kGatheredBytes}, at::TensorOptions().dtype(at::kByte).device(device));
  }

  NcclCommunicator(std::unique_ptr<Communicator> host, at::Device device, NcclOptions options)
      : NcclCommunicator(*host, device, options) {
    kept_ = std::move(host);
  }

  ~NcclCommunicator() override {
    // After a fault its streams may wait for ever, and with them whoever frees what they use.
    if (!group_.is_healthy()) (void)relay_.release();
  }
  NcclCommunicator(const NcclCommunicator&) = delete;
  NcclCommunicator& operator=(const NcclCommunicator&) = delete;

  [[nodiscard]] std::int64_t rank() const override { return host_.rank(); }
  [[nodiscard]] std::int64_t size() const override { return host_.size(); }
  [[nodiscard]] std::string name() const override { return "nccl"; }
  [[nodiscard]] Place place() const override { return host_.place(); }
  [[nodiscard]] bool has_copy_engines() const override {
    return relay_ != nullptr || (movers_ == Movers::kCopyEngines && memory_.is_mapped());
  }

  [[nodiscard]] bool has_host_memory() const override { return relay_ != nullptr; }

  [[nodiscard]] bool has_peer_memory() const override {
    return movers_ == Movers::kPeerMemory && memory_.is_mapped();
  }

  void check() override {
    host_.check();
    group_.check();
  }

  [[noreturn]] void abort(int exit_code) override {
    group_.abort();
    host_.abort(exit_code);
    std::terminate();  // not reached: GCC does not see that no override returns
  }

 private:
  static constexpr std::int64_t kGatheredBytes = 1 << 20;

  [[nodiscard]] bool takes(at::Device device) const override { return device.is_cpu() || device == device_; }

  std::unique_ptr<Work::Handle> do_all_reduce(const at::Tensor& tensor, ReduceOp op) override {
    if (tensor.is_cpu()) return from_host(host_.all_reduce_async(tensor, op));
    if (relay_) return on_own_stream([&] { reduce_by_relay(tensor.view({-1}), op); });
    return start("ncclAllReduce", tensor, [&](ncclComm_t comm, cudaStream_t stream) {
      return ncclAllReduce(tensor.data_ptr(), tensor.data_ptr(), elements(tensor),
                           nccl_type(tensor.scalar_type()), nccl_op(op), comm, stream);
    });
  }

  std::unique_ptr<Work::Handle> do_reduce_scatter(const at::Tensor& tensor) override {
    if (tensor.is_cpu()) return from_host(host_.reduce_scatter_async(tensor));
    return start("ncclReduceScatter", tensor, [&](ncclComm_t comm, cudaStream_t stream) {
      return ncclReduceScatter(tensor.data_ptr(), chunk(tensor, rank()), elements(tensor) / ranks(),
                               nccl_type(tensor.scalar_type()), ncclSum, comm, stream);
    });
  }

  std::unique_ptr<Work::Handle> do_all_gather_tensor(const at::Tensor& tensor) override {
    if (tensor.is_cpu()) return from_host(host_.all_gather_async(tensor));
    if (relay_) {
      return on_own_stream(
          [&] { relay_->all_gather(chunk(tensor, 0), tensor.nbytes() / ranks(), stream_.stream()); });
    }
    return start("ncclAllGather", tensor, [&](ncclComm_t comm, cudaStream_t stream) {
      return ncclAllGather(chunk(tensor, rank()), tensor.data_ptr(), tensor.nbytes() / ranks(), ncclUint8,
                           comm, stream);
    });
  }

  std::unique_ptr<Work::Handle> do_all_to_all(const at::Tensor& send, const at::Tensor& receive) override {
    if (send.is_cpu()) return from_host(host_.all_to_all_async(send, receive));
    if (relay_) {
      std::vector<at::Tensor> chunks = receive.view({-1}).chunk(size());
      return on_own_stream([&] {
        deal_by_relay(send, chunks);
        C10_CUDA_CHECK(cudaMemcpyAsync(chunk(receive, rank()), chunk(send, rank()), send.nbytes() / ranks(),
                                       cudaMemcpyDeviceToDevice, stream_.stream()));
      });
    }
    return start("ncclAlltoAll", send, [&](ncclComm_t comm, cudaStream_t stream) {
      return ncclAlltoAll(send.data_ptr(), receive.data_ptr(), send.nbytes() / ranks(), ncclUint8, comm,
                          stream);
    });
  }

  std::unique_ptr<Work::Handle> do_exchange(const at::Tensor& send, std::int64_t to,
                                            const at::Tensor& receive, std::int64_t from) override {
    if (send.is_cpu()) return from_host(host_.exchange_async(send, to, receive, from));
    if (send.numel() == 0 && receive.numel() == 0) return std::make_unique<NothingToDo>();
    return start_always("ncclSend and ncclRecv", [&](ncclComm_t comm, cudaStream_t stream) {
      ncclResult_t result = ncclGroupStart();
      const auto queue = [&result](ncclResult_t next) {
        if (result == ncclSuccess && next != ncclInProgress) result = next;
      };
      if (send.numel() > 0)
        queue(ncclSend(send.data_ptr(), send.nbytes(), ncclUint8, static_cast<int>(to), comm, stream));
      if (receive.numel() > 0)
        queue(
            ncclRecv(receive.data_ptr(), receive.nbytes(), ncclUint8, static_cast<int>(from), comm, stream));
      const ncclResult_t end = ncclGroupEnd();
      return result == ncclSuccess ? end : result;
    });
  }
  std::unique_ptr<Communicator> do_split(std::int64_t part) override { return host_.split(part); }

  [[nodiscard]] std::vector<at::Tensor> do_peer_views(const at::Tensor& part) const override {
    const auto peers = memory_.find(part.const_data_ptr(), part.nbytes());
    std::vector<at::Tensor> views;
    for (int other = 0; peers && other < peers->ranks; ++other)
      if (other != peers->rank)
        views.push_back(at::for_blob(peers->of[other], part.sizes())
                            .strides(part.strides())
                            .options(part.options())
                            .target_device(device_)
                            .make_tensor());
    return views;
  }
  std::unique_ptr<Work::Handle> do_deal(const at::Tensor& send,
                                        const std::vector<at::Tensor>& receive) override {
    return on_own_stream([&] { deal_by_relay(send, receive); });
  }
  void deal_by_relay(const at::Tensor& send, const std::vector<at::Tensor>& receive) {
    std::vector<std::byte*> places;
    for (const at::Tensor& place : receive)
      places.push_back(place.defined() ? static_cast<std::byte*>(place.data_ptr()) : nullptr);
    relay_->deal(chunk(send, 0), places, send.nbytes() / ranks(), stream_.stream());
  }
  std::unique_ptr<Work::Handle> do_meet() override {
    return on_own_stream([&] { meet_peers(memory_.meeting_counts(), stream_.stream()); });
  }

  void do_broadcast(const at::Tensor& tensor, std::int64_t root) override {
    if (tensor.is_cpu()) return host_.broadcast(tensor, root);
    start("ncclBroadcast", tensor, [&](ncclComm_t comm, cudaStream_t stream) {
      return ncclBroadcast(tensor.data_ptr(), tensor.data_ptr(), tensor.nbytes(), ncclUint8,
                           static_cast<int>(root), comm, stream);
    })->wait();
  }

  std::string do_broadcast_bytes(std::string bytes, std::int64_t root) override {
    return host_.broadcast(std::move(bytes), root);
  }
  std::vector<std::string> do_all_gather(std::string_view bytes) override { return host_.all_gather(bytes); }
  void do_barrier() override { host_.barrier(); }
  at::Tensor do_exchange_buffer(std::int64_t elements, at::ScalarType dtype, at::Device device) override {
    if (device.is_cpu()) return host_.exchange_buffer(elements, dtype, device);
    return memory_.zeros(elements, dtype);
  }

  /// What all ranks have, side by side, folded in rank order. Made for the few bytes of a step that are not
  /// summed by OrderedReduction: each rank receives all the others'.
  void reduce_by_relay(const at::Tensor& flat, ReduceOp op) {
    (void)nccl_type(flat.scalar_type());  // the types that a group sums
    const c10::cuda::CUDAStreamGuard guard(stream_);
    const auto width = static_cast<std::int64_t>(flat.element_size());
    for (std::int64_t begin = 0; begin < flat.numel(); begin += kGatheredBytes / width) {
      const at::Tensor part = flat.narrow(0, begin, std::min(kGatheredBytes / width, flat.numel() - begin));
      const at::Tensor all = gathered_.narrow(0, 0, size() * part.numel() * width)
                                 .view(flat.scalar_type())
                                 .view({size(), part.numel()});
      all[rank()].copy_(part);
      relay_->all_gather(chunk(all, 0), part.nbytes(), stream_.stream());
      at::Tensor sum = all[0];
      for (std::int64_t from = 1; from < size(); ++from) {
        at::Tensor to = from + 1 == size() ? part : sum;
        if (op == ReduceOp::kSum)
          at::add_out(to, sum, all[from]);
        else if (op == ReduceOp::kMin)
          at::minimum_out(to, sum, all[from]);
        else
          at::maximum_out(to, sum, all[from]);
      }
    }
  }

  [[nodiscard]] std::size_t ranks() const { return static_cast<std::size_t>(size()); }
  [[nodiscard]] static std::size_t elements(const at::Tensor& tensor) {
    return static_cast<std::size_t>(tensor.numel());
  }
  [[nodiscard]] std::byte* chunk(const at::Tensor& tensor, std::int64_t index) const {
    return static_cast<std::byte*>(tensor.data_ptr()) +
           tensor.nbytes() / ranks() * static_cast<std::size_t>(index);
  }

  /// After the current stream's work, on the own stream. In a capture the own stream becomes part of it by
  /// the first event and leaves it by the second one, when the Work is waited for.
  template <typename Enqueue>
  std::unique_ptr<Work::Handle> start(const char* call, const at::Tensor& tensor, Enqueue enqueue) {
    if (tensor.numel() == 0) return std::make_unique<NothingToDo>();
    return start_always(call, enqueue);
  }
  template <typename Enqueue>
  std::unique_ptr<Work::Handle> start_always(const char* call, Enqueue enqueue) {
    return on_own_stream(
        [&] { group_.run(call, [&](ncclComm_t comm) { return enqueue(comm, stream_.stream()); }); });
  }
  template <typename Enqueue>
  std::unique_ptr<Work::Handle> on_own_stream(Enqueue enqueue) {
    const c10::cuda::CUDAGuard guard(device_);
    const cudaStream_t current = c10::cuda::getCurrentCUDAStream(device_.index()).stream();
    auto handle = std::make_unique<StreamHandle>(events_, events_.take(), device_.index());
    C10_CUDA_CHECK(cudaEventRecord(handle->event(), current));
    C10_CUDA_CHECK(cudaStreamWaitEvent(stream_.stream(), handle->event(), 0));
    enqueue();
    C10_CUDA_CHECK(cudaEventRecord(handle->event(), stream_.stream()));
    return handle;
  }

  std::unique_ptr<Communicator> kept_;  ///< none: somebody else has the host
  Communicator& host_;
  at::Device device_;
  c10::cuda::CUDAStream stream_;
  OrderEvents events_;
  NcclGroup group_;
  NcclMemory memory_;
  Movers movers_;
  std::unique_ptr<HostRelay> relay_;  ///< in place of NCCL, where it serves
  at::Tensor gathered_;               ///< its all-reduces': a piece of each rank's
};

}  // namespace

std::unique_ptr<Communicator> make_nccl_communicator(Communicator& host, at::Device device,
                                                     NcclOptions options) {
  TORCH_CHECK(device.is_cuda() && device.has_index(),
              "make_nccl_communicator: needs a CUDA device with its index, got ", device);
  if (host.size() == 1) return make_local_communicator();
  const c10::cuda::CUDAGuard guard(device);
  return std::make_unique<NcclCommunicator>(host, device, options);
}

std::unique_ptr<Communicator> make_nccl_communicator(std::unique_ptr<Communicator> host, at::Device device,
                                                     NcclOptions options) {
  TORCH_CHECK(device.is_cuda() && device.has_index(),
              "make_nccl_communicator: needs a CUDA device with its index, got ", device);
  if (host->size() == 1) return host;
  const c10::cuda::CUDAGuard guard(device);
  return std::make_unique<NcclCommunicator>(std::move(host), device, options);
}

}  // namespace sluice::parallel
