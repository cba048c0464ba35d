#include "parallel/replica_check.h"

#include <c10/util/Exception.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <algorithm>
#include <array>
#include <cstdio>

namespace sluice::parallel {
namespace {

std::string hexadecimal(std::uint64_t value) {
  std::array<char, 17> text{};
  std::snprintf(text.data(), text.size(), "%016llx", static_cast<unsigned long long>(value));
  return text.data();
}

struct Odd {
  std::vector<std::int64_t> ranks;
  std::string common;  ///< of those that they were compared with
  std::string names;
};

/// Adds the ranks first, first + stride, ... whose digest is not that of most of them.
void compare(const std::vector<std::string>& digests, std::size_t first, std::size_t stride, Odd& odd) {
  std::vector<std::string> own;
  for (std::size_t rank = first; rank < digests.size(); rank += stride) own.push_back(digests[rank]);
  // max_element takes the first of equals: the lowest rank's digest where no majority decides.
  const auto& common = *std::ranges::max_element(
      own, {}, [&](const std::string& digest) { return std::ranges::count(own, digest); });
  for (std::size_t rank = first; rank < digests.size(); rank += stride) {
    if (digests[rank] == common) continue;
    odd.common = common;
    odd.ranks.push_back(static_cast<std::int64_t>(rank));
    odd.names += (odd.names.empty() ? "" : ", ") + std::to_string(rank) + " (" + digests[rank] + ")";
  }
}

/// Ranks are compared with every `stride`-th other one.
void check_digests(Communicator& communicator, std::uint64_t digest, std::int64_t stride,
                   const std::string& what) {
  const auto digests = communicator.all_gather(hexadecimal(digest));
  Odd odd;
  for (std::size_t first = 0; first < static_cast<std::size_t>(stride); ++first)
    compare(digests, first, static_cast<std::size_t>(stride), odd);
  if (odd.ranks.empty()) return;
  throw ReplicaDrift(what + " differs between ranks: the others hold " + odd.common + ", but rank" +
                         (odd.ranks.size() > 1 ? "s " : " ") + odd.names,
                     odd.ranks);
}

}  // namespace

std::uint64_t buffer_digest(const std::vector<at::Tensor>& tensors) {
  XXH3_state_t state;
  XXH3_64bits_reset(&state);
  for (const at::Tensor& tensor : tensors) {
    TORCH_CHECK(tensor.device().is_cpu() && tensor.is_contiguous(),
                "buffer_digest: needs a contiguous CPU tensor, got ", tensor.device(), " sizes ",
                tensor.sizes());
    XXH3_64bits_update(&state, tensor.const_data_ptr(), tensor.nbytes());
  }
  return XXH3_64bits_digest(&state);
}

void check_replicas(Communicator& communicator, const at::Tensor& tensor, const std::string& what) {
  check_digests(communicator, buffer_digest({tensor}), 1, what);
}

void check_replicas(Communicator& communicator, const ArenaLayout& layout, const at::Tensor& flat,
                    const std::string& what) {
  for (const Holders holders : {Holders::kAllRanks, Holders::kSamePlace}) {
    std::vector<at::Tensor> parts;
    for (std::size_t index = 0; index < layout.buckets().size(); ++index)
      if (layout.buckets()[index].holders == holders)
        parts.push_back(layout.bucket_view(flat, static_cast<std::int64_t>(index)));
    if (!parts.empty())
      check_digests(communicator, buffer_digest(parts),
                    holders == Holders::kAllRanks ? 1 : layout.sequence_ranks(), what);
  }
}

}  // namespace sluice::parallel
