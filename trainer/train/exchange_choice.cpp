#include "trainer/train/exchange_choice.h"

#include <ATen/core/Tensor.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <functional>
#include <memory>
#include <string>
#include <type_traits>
#include <utility>

#include "parallel/device.h"
#include "parallel/nccl_communicator.h"
#include "trainer/model/parameters.h"
#include "trainer/train/sequence_ranks.h"

namespace sluice::train {
namespace {

using kernels::ExchangeMode;

constexpr std::int64_t kBatches = 3;
constexpr std::int64_t kOperations = 6;  // of a batch
constexpr std::int64_t kMostRows = 1024;
constexpr std::int64_t kUpdated = std::int64_t{1} << 22;  // elements

std::int64_t compute_bytes(const std::string& precision) {
  if (precision == "bf16") return 2;
  return precision == "fp64" ? 8 : 4;
}

/// Median over batches of the seconds of one operation, host clock, device idle before and after.
double time_once(c10::Device device, const std::function<void()>& together,
                 const std::function<void()>& operation) {
  std::vector<double> seconds;
  operation();
  for (std::int64_t batch = 0; batch < kBatches; ++batch) {
    parallel::wait_for_device(device);
    together();
    const auto begin = std::chrono::steady_clock::now();
    for (std::int64_t i = 0; i < kOperations; ++i) operation();
    parallel::wait_for_device(device);
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begin;
    seconds.push_back(took.count() / static_cast<double>(kOperations));
  }
  std::ranges::nth_element(seconds, seconds.begin() + kBatches / 2);
  return seconds[kBatches / 2];
}

/// What an operation on two tensors of so many bytes takes: a line through two sizes.
parallel::LinkModel time_link(parallel::Communicator& ranks, c10::Device device,
                              const std::function<void(const at::Tensor&, const at::Tensor&)>& operation) {
  const std::vector<std::int64_t> sizes = device.is_cuda() ? std::vector<std::int64_t>{1 << 18, 1 << 25}
                                                           : std::vector<std::int64_t>{1 << 16, 1 << 22};
  std::vector<parallel::TimedExchange> timed;
  for (const std::int64_t bytes : sizes) {
    const std::int64_t chunk = bytes / (ranks.size() * static_cast<std::int64_t>(sizeof(float)));
    const at::Tensor send =
        at::zeros({chunk * ranks.size()}, at::TensorOptions().dtype(at::kFloat).device(device));
    const at::Tensor receive = at::empty_like(send);
    const double seconds = time_once(
        device, [&] { ranks.barrier(); }, [&] { operation(send, receive); });
    timed.push_back({static_cast<std::int64_t>(send.nbytes()), seconds});
  }
  return parallel::fit_link(timed);
}

/// FLOP/s of a product [rows, rows] by [rows, channels].
double time_product(const ExchangeShape& shape, std::int64_t channels, c10::Device device) {
  const at::ScalarType type = shape.compute_bytes == 2   ? at::kBFloat16
                              : shape.compute_bytes == 8 ? at::kDouble
                                                         : at::kFloat;
  const std::int64_t rows = std::min(shape.rows.most(), kMostRows);
  const at::TensorOptions options = at::TensorOptions().dtype(type).device(device);
  const at::Tensor weight = at::zeros({rows, rows}, options);
  const at::Tensor gate = at::zeros({rows, channels}, options);
  const double seconds = time_once(
      device, [] {}, [&] { static_cast<void>(at::mm(weight, gate)); });
  return 2 * static_cast<double>(rows * rows * channels) / seconds;
}

/// Bytes per second of a pass over tensors: one is added to another.
double time_pass(c10::Device device) {
  const at::Tensor sum = at::zeros({kUpdated}, at::TensorOptions().dtype(at::kFloat).device(device));
  const at::Tensor other = at::empty_like(sum);
  const double seconds = time_once(
      device, [] {}, [&] { sum.add_(other); });
  return 3 * static_cast<double>(sum.nbytes()) / seconds;
}

/// Of the ranks of a row, on all ranks those of rank 0.
ExchangeRates measure_exchange(const ExchangeShape& shape, parallel::Communicator& row,
                               parallel::Communicator& world, c10::Device device) {
  static_assert(std::is_trivially_copyable_v<ExchangeRates>);
  const at::NoGradGuard no_grad;
  const std::int64_t ranks = row.size();
  const std::int64_t width = (shape.channels + ranks - 1) / ranks;
  ExchangeRates rates;
  rates.all_to_all = time_link(row, device, [&](const at::Tensor& send, const at::Tensor& receive) {
    row.all_to_all_async(send, receive).wait();
  });
  rates.all_gather = time_link(
      row, device, [&](const at::Tensor& send, const at::Tensor&) { row.all_gather_async(send).wait(); });
  rates.reduce_scatter = time_link(
      row, device, [&](const at::Tensor& send, const at::Tensor&) { row.reduce_scatter_async(send).wait(); });
  rates.pass = time_link(row, device, [&](const at::Tensor& send, const at::Tensor& receive) {
    row.exchange_async(send, (row.rank() + ranks - 1) % ranks, receive, (row.rank() + 1) % ranks).wait();
  });
  rates.all_reduce = time_link(row, device, [&](const at::Tensor& send, const at::Tensor&) {
    row.all_reduce_async(send, parallel::ReduceOp::kSum).wait();
  });
  world.barrier();
  rates.flops_per_s = time_product(shape, shape.channels, device);
  rates.narrow_flops_per_s = time_product(shape, width, device);
  rates.pass_bytes_per_s = time_pass(device);
  rates.overlap = device.is_cuda() ? 1 : 0;  // MPI moves messages while somebody waits for them
  const std::string bytes =
      world.broadcast(std::string(reinterpret_cast<const char*>(&rates), sizeof rates), 0);
  std::memcpy(&rates, bytes.data(), sizeof rates);
  return rates;
}

}  // namespace

std::string exchange_choice_name(std::int64_t sp) { return "exchange_of_sp" + std::to_string(sp); }

ExchangeShape exchange_shape(const RunOptions& options, std::int64_t ranks) {
  const model::ModelOptions& o = options.model;
  const std::int64_t sp = options.parallel.sp;
  const std::int64_t rows = ranks / sp;
  const std::int64_t of_row = (options.train.global_batch + rows - 1) / rows;
  const std::int64_t bytes = compute_bytes(options.train.precision);
  return {.rows = {o.seq_len, sp, kernels::sequence_tile(o.seq_len, sp)},
          .batch = std::min(options.train.micro_batch, of_row),
          .channels = model::gate_channels(o),
          .heads = o.spatial_heads,
          .mixing = o.causal ? kernels::Mixing::kCausal : kernels::Mixing::kFull,
          .free = o.spatial == "free",
          .compute_bytes = bytes,
          .master_bytes = std::max<std::int64_t>(bytes, 4),
          .data_ranks = rows,
          .micro_batches = (of_row + options.train.micro_batch - 1) / options.train.micro_batch};
}

std::vector<ExchangePrediction> measure_predictions(const RunOptions& options, DeviceGroup& group) {
  const std::int64_t sp = options.parallel.sp;
  if (sp == 1 || options.model.kind != "gmlp") return {};
  parallel::Communicator& world = group.exchange();
  std::unique_ptr<parallel::Communicator> row = world.split(world.rank() / sp);
  if (group.device().is_cuda()) row = parallel::make_nccl_communicator(std::move(row), group.device());
  const ExchangeShape shape = exchange_shape(options, world.size());
  return predict_exchanges(shape, measure_exchange(shape, *row, world, group.device()));
}

ExchangeChoice choose_exchange(RunOptions options, std::optional<ExchangeMode> kept, DeviceGroup& group) {
  ExchangeChoice choice{.options = std::move(options), .predictions = {}};
  std::string& mode = choice.options.parallel.sp_mode;
  if (choice.options.parallel.sp == 1 || mode != "auto") return choice;
  if (kept) {
    mode = exchange_name(*kept);
    return choice;
  }
  choice.predictions = measure_predictions(choice.options, group);
  if (!choice.predictions.empty()) mode = exchange_name(cheapest(choice.predictions).mode);
  return choice;
}

}  // namespace sluice::train
