#!/usr/bin/env bash
# share_gpu.sh PROGRAM ARGUMENTS...: what mpirun starts where ranks are to share a GPU, for tests alone. NCCL takes two ranks
# on one GPU only when they seem to be on hosts of their own; they then talk over sockets.
export SLUICE_SHARE_GPU=1 NCCL_HOSTID="sluice-test-${OMPI_COMM_WORLD_RANK:-${PMI_RANK:-}}" NCCL_P2P_DISABLE=1 NCCL_SHM_DISABLE=1
export NCCL_NVLS_ENABLE=0 NCCL_MNNVL_ENABLE=0 NCCL_NET=Socket NCCL_SOCKET_IFNAME=lo
exec "$@"
