#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "trainer/model/options.h"
#include "trainer/optim/options.h"

namespace sluice::train {

struct RunSection {
  std::string dir;  ///< run directory
  std::uint64_t seed = 0;
  bool new_run = false;     ///< run.new: move an existing run directory aside and start anew
  std::string branch_from;  ///< another run's checkpoint that a new run goes on from; empty: none
};

struct DataOptions {
  std::string corpus;
  std::string window = "sequential";  ///< sequential | random-offset
  std::uint64_t seed = 0;             ///< defaults to run.seed
  std::int64_t reader_threads = 16;
  std::string stage;  ///< local directory to copy the corpus to, once a node; empty: read it where it is
};

struct TrainOptions {
  std::int64_t steps = 0;  ///< resolved from train.tokens where that is given
  std::int64_t tokens = 0;
  std::int64_t global_batch = 32;       ///< sequences a step, all ranks together
  std::int64_t micro_batch = 8;         ///< sequences at once on a rank
  std::string init_from;                ///< checkpoint or run that the weights start from; empty: none
  std::string objective = "causal";     ///< causal | mlm
  double mask_rate = 0.15;              ///< mlm: share of a window's tokens that is predicted
  double mask_token_share = 0.8;        ///< of these, shown as the mask token
  double mask_random_share = 0.1;       ///< of these, shown as a token drawn at random
  std::string device = "auto";          ///< auto | cpu | cuda
  std::string precision = "fp32";       ///< fp32 | tf32 | bf16 | fp8 | fp64
  std::string residual_dtype = "fp32";  ///< of the residual stream where products are bf16: fp32 | bf16
  std::string reduce_dtype = "fp32";    ///< of gradients between ranks: fp32 | bf16
  std::string recompute = "none";       ///< activations computed again in backward: none | gate | block
  std::int64_t max_skipped = 5;         ///< steps in a row whose loss or gradient is not finite
  std::string cuda_graph = "on";        ///< capture a GPU's step once and replay it: on | off
  std::string tune = "on";   ///< time the algorithms of a GPU's bf16 products at the start: on | off
  bool tensorboard = false;  ///< event file beside metrics.jsonl
  std::string ledger;        ///< file; empty: none
  std::string ledger_detail = "range";  ///< range | full
  std::int64_t threads = 0;             ///< compute threads a rank; 0: cores of the node / ranks of the node
};

struct EvalOptions {
  std::int64_t every = 100;  ///< steps; 0: never
  std::int64_t batches = 0;  ///< micro-batches at most, all ranks together; 0: the whole split
};

struct CheckpointOptions {
  std::int64_t every = 100;      ///< steps; 0: only at the end and on signals
  std::int64_t keep = 3;         ///< newest ones kept
  std::int64_t keep_every = 0;   ///< those of every M-th step are kept for ever; 0: none
  std::vector<std::int64_t> at;  ///< steps with a checkpoint that is kept for ever, beside `every`
};

struct ParallelOptions {
  std::int64_t sp = 1;           ///< ranks that share each sequence; the others take other samples
  std::string sp_mode = "auto";  ///< how they mix positions: auto | alltoall | rowshard | ring
  double bucket_mb = 0;          ///< gradient bucket, MB of 1e6 bytes; 0: from what was measured
  std::int64_t zero = 0;         ///< 1: each rank holds its slices of the optimizer's state alone
  std::string exchange =
      "auto";  ///< what moves data between GPUs: auto | kernels | copy_engines | peer_memory | host_memory
  std::int64_t check_replicas_every = 0;  ///< steps between hash checks of the replicas; 0: never
  std::int64_t watchdog_s = 600;          ///< seconds until a hanging collective ends the job; 0: never
};

/// Everything that defines a run; const from the moment it is resolved.
struct RunOptions {
  RunSection run;
  DataOptions data;
  model::ModelOptions model;
  TrainOptions train;
  optim::OptimOptions optim;
  EvalOptions eval;
  CheckpointOptions checkpoint;
  ParallelOptions parallel;
};

}  // namespace sluice::train
