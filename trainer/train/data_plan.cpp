#include "trainer/train/data_plan.h"

#include <fmt/format.h>

#include "parallel/device_stream.h"
#include "trainer/train/errors.h"

namespace sluice::train {

dataio::WindowPlan window_plan(const RunOptions& options, const dataio::SplitLayout& split) {
  return {.split_tokens = split.tokens,
          .seq_len = options.model.seq_len,
          .mode = options.data.window == "random-offset" ? dataio::WindowMode::kRandomOffset
                                                         : dataio::WindowMode::kSequential};
}

std::optional<std::string> window_fault(const dataio::WindowPlan& plan, const std::string& split) {
  if (plan.samples_per_epoch() >= 1) return std::nullopt;
  return fmt::format("{} has {} tokens, fewer than one window of model.seq_len + 1 = {}", split,
                     plan.split_tokens, plan.seq_len + 1);
}

dataio::Order sample_order(const RunOptions& options, const dataio::SplitLayout& split) {
  return {window_plan(options, split), options.data.seed};
}

void check_ranks(const RunOptions& options, const parallel::Communicator& world) {
  const std::int64_t sp = options.parallel.sp;
  if (world.size() % sp != 0)
    throw InputError(
        fmt::format("parallel.sp: {} ranks for each sequence do not divide {} ranks", sp, world.size()));
  const std::int64_t rows = world.size() / sp;
  if (options.train.global_batch >= rows) return;
  throw InputError(fmt::format("train.global_batch: {} sequences for {} {}; allowed is at least one for each",
                               options.train.global_batch, rows,
                               sp == 1 ? "ranks" : fmt::format("groups of parallel.sp = {} ranks", sp)));
}

dataio::Slicing slicing_of(const RunOptions& options, const parallel::Communicator& world) {
  return {.global_batch = options.train.global_batch,
          .micro_batch = options.train.micro_batch,
          .world_size = world.size() / options.parallel.sp,
          .rank = world.rank() / options.parallel.sp};
}

dataio::LoaderOptions loader_options(const RunOptions& options, at::Device device,
                                     const std::optional<Masking>& masking) {
  dataio::LoaderOptions loader;
  loader.reader_threads = options.data.reader_threads;
  if (masking) loader.form = masked_rows(*masking, options.model.seq_len);
  if (device.is_cuda()) loader.allocate = parallel::pinned_bytes;
  return loader;
}

}  // namespace sluice::train
