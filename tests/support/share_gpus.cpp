#include "tests/support/share_gpus.h"

#include <cstdlib>
#include <string>

#include "parallel/device.h"

namespace sluice::tests {

void let_ranks_share_gpus() {
  constexpr int kKeep = 0;
  setenv("NCCL_NVLS_ENABLE", "0", kKeep);  // virtual machines often lack multicast
  const char* ranks = std::getenv("OMPI_COMM_WORLD_LOCAL_SIZE");
  if (ranks == nullptr) ranks = std::getenv("MPI_LOCALNRANKS");  // MPICH's launcher
  const char* rank = std::getenv("OMPI_COMM_WORLD_RANK");
  if (rank == nullptr) rank = std::getenv("PMI_RANK");
  if (ranks == nullptr || rank == nullptr) return;
  if (std::stoull(ranks) <= parallel::report_devices().gpus.size()) return;
  setenv("SLUICE_SHARE_GPU", "1", kKeep);
  setenv("NCCL_HOSTID", (std::string("sluice-test-") + rank).c_str(), kKeep);
  setenv("NCCL_P2P_DISABLE", "1", kKeep);
  setenv("NCCL_SHM_DISABLE", "1", kKeep);
  setenv("NCCL_MNNVL_ENABLE", "0", kKeep);
  setenv("NCCL_NET", "Socket", kKeep);
  setenv("NCCL_SOCKET_IFNAME", "lo", kKeep);
}

}  // namespace sluice::tests
