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

}  // namespace

std::uint64_t buffer_digest(const at::Tensor& tensor) {
  TORCH_CHECK(tensor.device().is_cpu() && tensor.is_contiguous(),
              "buffer_digest: needs a contiguous CPU tensor, got ", tensor.device(), " sizes ",
              tensor.sizes());
  return XXH3_64bits(tensor.const_data_ptr(), tensor.nbytes());
}

void check_replicas(Communicator& communicator, const at::Tensor& tensor, const std::string& what) {
  const auto digests = communicator.all_gather(hexadecimal(buffer_digest(tensor)));
  // max_element takes the first of equals: the lowest rank's digest where no majority decides.
  const auto& common = *std::ranges::max_element(
      digests, {}, [&](const std::string& digest) { return std::ranges::count(digests, digest); });
  std::vector<std::int64_t> odd;
  std::string names;
  for (std::size_t rank = 0; rank < digests.size(); ++rank) {
    if (digests[rank] == common) continue;
    odd.push_back(static_cast<std::int64_t>(rank));
    names += (names.empty() ? "" : ", ") + std::to_string(rank) + " (" + digests[rank] + ")";
  }
  if (!odd.empty())
    throw ReplicaDrift(what + " differs between ranks: the others hold " + common + ", but rank" +
                           (odd.size() > 1 ? "s " : " ") + names,
                       odd);
}

}  // namespace sluice::parallel
