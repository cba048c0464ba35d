#pragma once

namespace sluice::tests {

/// Lets the ranks of mpirun share a GPU where there are fewer GPUs than ranks: they then talk over sockets of
/// this host, as hosts would. Sets only variables that are not set. Before the first call of CUDA or NCCL.
void let_ranks_share_gpus();

}  // namespace sluice::tests
