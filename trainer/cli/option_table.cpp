#include "trainer/cli/option_table.h"

#include "trainer/cli/option_rows.h"

namespace sluice::cli {
namespace {

using namespace rows;
using R = train::RunOptions;
using enum OnResume;

std::vector<OptionRow> run_rows() {
  using S = train::RunSection;
  return {
      text("run.dir", &R::run, &S::dir, "a path",
           {"", "run directory: made if missing, resumed if it holds a run", kFree, "none: must be given"}),
      seed("run.seed", &R::run, &S::seed,
           {"", "seed of everything that is not given one of its own", kRefuse, ""}),
      flag("run.new", &R::run, &S::new_run,
           {"", "move an existing run directory aside and start anew", kFree, ""}),
      text(
          "run.branch_from", &R::run, &S::branch_from, "a path, or empty for none",
          {"",
           "checkpoint of another run (or that run: its newest) that a new run goes on from as if it were "
           "its "
           "own: weights, optimizer's state, place in the data; what may differ is what may change on resume",
           kFree, "none"}),
  };
}

std::vector<OptionRow> data_rows() {
  using S = train::DataOptions;
  return {
      text("data.corpus", &R::data, &S::corpus, "a path, or PATH:WEIGHT,PATH:WEIGHT,...",
           {"",
            "corpus directory that `sluice prepare` wrote, or a mixture of several of one tokenizer, by "
            "weights "
            "in any unit; on resume fingerprints and weights must be the same",
            kWarn, "none: must be given"}),
      choice("data.window", &R::data, &S::window, {"sequential", "random-offset"},
             {"", "how samples are cut: each token once an epoch, or windows moved by a random offset",
              kRefuse, ""}),
      seed("data.seed", &R::data, &S::seed,
           {"", "seed of the order in which samples are read, and of what mlm masks in them", kRefuse,
            "run.seed"}),
      integer("data.reader_threads", &R::data, &S::reader_threads, {1, 256},
              {"threads", "reads in flight on each rank", kFree, ""}),
      text("data.stage", &R::data, &S::stage, "a path, or empty for none",
           {"",
            "directory on each node's own disk to copy the corpus to before training; a complete copy there "
            "is "
            "used again, and where there is no room the corpus is read from where it lies",
            kFree, "none"}),
  };
}

std::vector<OptionRow> train_rows() {
  using S = train::TrainOptions;
  return {
      integer("train.steps", &R::train, &S::steps, {0, 1e9},
              {"steps", "optimizer steps of the whole run; 0: from train.tokens", kSchedule,
               "none: this or train.tokens must be given"}),
      integer("train.tokens", &R::train, &S::tokens, {0, 1e15},
              {"tokens",
               "instead of train.steps: steps = tokens / (global_batch seq_len), rounded up; 0: not given",
               kFree, "0"}),
      integer("train.global_batch", &R::train, &S::global_batch, {1, 1e7},
              {"sequences", "sequences of a step, all ranks together", kRefuse, ""}),
      integer("train.micro_batch", &R::train, &S::micro_batch, {1, 1e6},
              {"sequences", "sequences that a rank computes at once; gradients accumulate over the rest",
               kFree, ""}),
      text("train.init_from", &R::train, &S::init_from, "a path, or empty for none",
           {"",
            "checkpoint or run whose weights a new run starts from, of the same model and tokenizer; its "
            "optimizer's state is not taken",
            kRefuse, "none"}),
      choice(
          "train.objective", &R::train, &S::objective, {"causal", "mlm"},
          {"",
           "causal: every position predicts the next token; mlm: masked ones predict their own (BERT), needs "
           "model.causal = false and a tokenizer with a mask token",
           kRefuse, ""}),
      number("train.mask_rate", &R::train, &S::mask_rate, kPositiveFraction,
             {"share of tokens", "mlm: predicted of each window, rounded, at least one; never special tokens",
              kRefuse, ""}),
      number("train.mask_token_share", &R::train, &S::mask_token_share, kFraction,
             {"share of predicted tokens", "mlm: shown as the mask token", kRefuse, ""}),
      number("train.mask_random_share", &R::train, &S::mask_random_share, kFraction,
             {"share of predicted tokens", "mlm: shown as a random token; what is left is shown as it is",
              kRefuse, ""}),
      choice("train.device", &R::train, &S::device, {"auto", "cpu", "cuda"},
             {"", "what computes: auto takes GPUs where every rank has one; also as --device", kFree, ""}),
      choice(
          "train.precision", &R::train, &S::precision, {"fp32", "tf32", "bf16", "fp8", "fp64"},
          {"",
           "type of products and activations; weights and sums are fp32 but for fp64; fp8: bf16 but for the "
           "channel products of a gmlp (CPU: fp32, fp64; GPU: fp32, tf32, bf16, fp8)",
           kWarn, ""}),
      choice("train.residual_dtype", &R::train, &S::residual_dtype, {"fp32", "bf16"},
             {"", "type of the residual stream; bf16 only where train.precision is bf16 or fp8", kWarn, ""}),
      choice("train.reduce_dtype", &R::train, &S::reduce_dtype, {"fp32", "bf16"},
             {"", "type in which gradients travel between ranks; bf16 is still summed in fp32", kWarn, ""}),
      choice(
          "train.recompute", &R::train, &S::recompute, {"none", "gate", "block"},
          {"", "activations of each block that are computed again in backward instead of kept", kFree, ""}),
      integer(
          "train.max_skipped", &R::train, &S::max_skipped, {0, 1e6},
          {"steps",
           "steps in a row that may be skipped because loss or gradient is not finite; one more ends the run",
           kFree, ""}),
      choice("train.cuda_graph", &R::train, &S::cuda_graph, {"on", "off"},
             {"", "capture a GPU's step once and replay it; off: for debugging, the same bits", kFree, ""}),
      choice(
          "train.tune", &R::train, &S::tune, {"on", "off"},
          {"", "time a GPU's bf16 products at a run's start and keep the fastest; off: the library's choice",
           kFree, ""}),
      flag("train.tensorboard", &R::train, &S::tensorboard,
           {"", "write TensorBoard's event file into run.dir, beside metrics.jsonl", kFree, ""}),
      text("train.ledger", &R::train, &S::ledger, "a path, or empty for none",
           {"", "file that lists the samples of each step", kWarn, "none"}),
      choice("train.ledger_detail", &R::train, &S::ledger_detail, {"range", "full"},
             {"", "full: with the token offsets of each window", kWarn, ""}),
      integer("train.threads", &R::train, &S::threads, {0, 1024},
              {"threads", "compute threads of a rank; 0: cores of the machine / ranks on it", kFree, ""}),
  };
}

std::vector<OptionRow> optim_rows() {
  using S = optim::OptimOptions;
  return {
      choice("optim.kind", &R::optim, &S::kind, {"adamw", "adam"},
             {"", "adamw: decay apart from the gradient; adam: decay added to it", kRefuse, ""}),
      number("optim.lr", &R::optim, &S::lr, kPositive,
             {"", "highest learning rate; under noam the factor of d_model^-0.5", kWarn, ""}),
      choice("optim.schedule", &R::optim, &S::schedule, {"constant", "linear", "cosine", "wsd", "noam"},
             {"",
              "course of the learning rate after warm-up (wsd: constant, then a decay; noam: inverse square "
              "root)",
              kRefuse, ""}),
      integer("optim.warmup_steps", &R::optim, &S::warmup_steps, {0, 1e9},
              {"steps", "linear warm-up from lr / warmup_steps to lr", kRefuse, ""}),
      number("optim.min_lr", &R::optim, &S::min_lr, kFraction,
             {"share of lr", "learning rate at the end of linear, cosine and wsd", kWarn, ""}),
      number("optim.decay_fraction", &R::optim, &S::decay_fraction, kFraction,
             {"share of steps", "wsd: how much of the run decays", kRefuse, ""}),
      numbers("optim.betas", &R::optim, &S::betas, kBelowOne,
              {"", "decay of the first and second moment, a comma between", kRefuse, ""}),
      number("optim.eps", &R::optim, &S::eps, kPositive,
             {"", "added to the root of the second moment", kWarn, ""}),
      number("optim.weight_decay", &R::optim, &S::weight_decay, kNotNegative,
             {"", "none is applied to norms and biases", kWarn, ""}),
      number("optim.clip", &R::optim, &S::clip, kNotNegative,
             {"", "largest norm of the whole gradient; 0: no limit", kWarn, ""}),
  };
}

std::vector<OptionRow> cadence_rows() {
  return {
      integer("eval.every", &R::eval, &train::EvalOptions::every, kCadence,
              {"steps", "steps between evaluations on the valid split; 0: never", kFree, ""}),
      integer("eval.batches", &R::eval, &train::EvalOptions::batches, kCadence,
              {"micro-batches",
               "at most so many, all ranks together, spread over the split; 0: the whole split", kWarn, ""}),
      integer("checkpoint.every", &R::checkpoint, &train::CheckpointOptions::every, kCadence,
              {"steps", "steps between checkpoints; 0: at the end and on signals only", kFree, ""}),
      integer("checkpoint.keep", &R::checkpoint, &train::CheckpointOptions::keep, {1, 1e6},
              {"checkpoints", "how many of the newest are kept", kFree, ""}),
      integer("checkpoint.keep_every", &R::checkpoint, &train::CheckpointOptions::keep_every, kCadence,
              {"steps", "checkpoints of every so many steps are kept for ever; 0: none", kFree, ""}),
      integers("checkpoint.at", &R::checkpoint, &train::CheckpointOptions::at, {1, 1e9},
               {"steps", "a checkpoint is made at these steps too, and kept for ever", kFree, "none"}),
      integer("parallel.zero", &R::parallel, &train::ParallelOptions::zero, {0, 1},
              {"", "1: each rank holds its slices of the optimizer's state alone (ZeRO-1); the same results",
               kFree, ""}),
      integer(
          "parallel.sp", &R::parallel, &train::ParallelOptions::sp, {1, 4096},
          {"ranks",
           "ranks that share each sequence, every one with some of its positions; divides the ranks of the "
           "job. The same results",
           kFree, ""}),
      choice("parallel.sp_mode", &R::parallel, &train::ParallelOptions::sp_mode,
             {"auto", "alltoall", "rowshard", "ring"},
             {"",
              "how they mix positions: alltoall gives each all positions of some channels, rowshard all "
              "positions and its rows of W, ring the same block by block; auto: of a gMLP the one that "
              "links and products measured at the start predict to be the fastest. Attention: alltoall gives "
              "each all positions of some "
              "heads, of "
              "which sp is a divisor; rowshard, ring and a tiny attention gather keys and values",
              kFree, ""}),
      number("parallel.bucket_mb", &R::parallel, &train::ParallelOptions::bucket_mb, {0, 1e5},
             {"MB of 10^6 bytes",
              "gradients are exchanged in pieces of this size; 0: on GPUs from their link's measured latency "
              "and "
              "bandwidth, on CPU ranks 4",
              kFree, ""}),
      choice(
          "parallel.exchange", &R::parallel, &train::ParallelOptions::exchange,
          {"auto", "kernels", "copy_engines", "peer_memory", "host_memory"},
          {"",
           "what moves data between the GPUs of one host: NCCL's kernels; NCCL without kernels, by the GPUs' "
           "copy engines, which leaves the cores to products; who has values writes them into the memory "
           "that needs them (gradients and parameters under parallel.zero = 1, else as kernels); or copy "
           "engines through the host's memory, so that links between GPUs sleep (parallel.sp = 1, else as "
           "auto); auto: peer_memory, of two GPUs host_memory where gradients take its bus for less than a "
           "quarter of a micro-batch's backward, and copy_engines for values of shared sequences "
           "(parallel.sp_mode = rowshard)",
           kFree, ""}),
      integer("parallel.check_replicas_every", &R::parallel, &train::ParallelOptions::check_replicas_every,
              kCadence,
              {"steps", "steps between checks that all ranks hold the same weights; 0: never", kFree, ""}),
      integer("parallel.watchdog_s", &R::parallel, &train::ParallelOptions::watchdog_s, {0, 1e6},
              {"s", "time after which an exchange that hangs ends the job; 0: never", kFree, ""}),
  };
}

}  // namespace

const std::vector<OptionRow>& option_table() {
  static const std::vector<OptionRow> table = [] {
    std::vector<OptionRow> all;
    for (const auto& section :
         {run_rows(), data_rows(), model_rows(), train_rows(), optim_rows(), cadence_rows()}) {
      all.insert(all.end(), section.begin(), section.end());
    }
    return all;
  }();
  return table;
}

}  // namespace sluice::cli
