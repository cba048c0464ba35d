#include <cstddef>
#include <utility>

#include "parallel/mpi_internal.h"

// Operations that only move chunks: every message goes straight from its source to its place.
namespace sluice::parallel {
namespace {

class ChunkTransfer final : public MpiOperation {
 public:
  ChunkTransfer(at::Tensor send, at::Tensor receive, MpiMessages messages)
      : send_(std::move(send)), receive_(std::move(receive)), messages_(std::move(messages)) {}
  bool advance() override { return messages_.test(); }

 private:
  at::Tensor send_;  ///< kept alive while MPI may read and write them
  at::Tensor receive_;
  MpiMessages messages_;
};

std::byte* bytes_of(const at::Tensor& tensor) { return static_cast<std::byte*>(tensor.data_ptr()); }

}  // namespace

std::unique_ptr<MpiOperation> start_mpi_all_gather(const at::Tensor& tensor, MpiPlace place) {
  const std::int64_t chunk = static_cast<std::int64_t>(tensor.nbytes()) / place.size;
  std::byte* data = bytes_of(tensor);
  for (std::int64_t peer = 0; peer < place.size; ++peer) {
    if (peer == place.rank) continue;
    place.messages.receive(data + peer * chunk, chunk, peer, place.tag);
    place.messages.send(data + place.rank * chunk, chunk, peer, place.tag);
  }
  return std::make_unique<ChunkTransfer>(tensor, tensor, std::move(place.messages));
}

std::unique_ptr<MpiOperation> start_mpi_all_to_all(const at::Tensor& send, const at::Tensor& receive,
                                                   MpiPlace place) {
  const std::int64_t chunk = static_cast<std::int64_t>(send.nbytes()) / place.size;
  const std::byte* from = bytes_of(send);
  std::byte* to = bytes_of(receive);
  for (std::int64_t peer = 0; peer < place.size; ++peer) {
    if (peer == place.rank) continue;
    place.messages.receive(to + peer * chunk, chunk, peer, place.tag);
    place.messages.send(from + peer * chunk, chunk, peer, place.tag);
  }
  // By ATen: a group of one takes tensors of any device.
  const auto own = [&](const at::Tensor& tensor) {
    const std::int64_t elements = tensor.numel() / place.size;
    return tensor.detach().view({tensor.numel()}).narrow(0, place.rank * elements, elements);
  };
  own(receive).copy_(own(send));
  return std::make_unique<ChunkTransfer>(send, receive, std::move(place.messages));
}

std::unique_ptr<MpiOperation> start_mpi_exchange(const at::Tensor& send, std::int64_t to,
                                                 const at::Tensor& receive, std::int64_t from,
                                                 MpiPlace place) {
  place.messages.receive(receive.data_ptr(), static_cast<std::int64_t>(receive.nbytes()), from, place.tag);
  place.messages.send(send.data_ptr(), static_cast<std::int64_t>(send.nbytes()), to, place.tag);
  return std::make_unique<ChunkTransfer>(send, receive, std::move(place.messages));
}

}  // namespace sluice::parallel
