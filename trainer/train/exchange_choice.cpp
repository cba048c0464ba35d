#include "trainer/train/exchange_choice.h"

#include <ATen/core/Tensor.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstring>
#include <functional>
#include <memory>
#include <string>
#include <type_traits>
#include <utility>

#include "parallel/device.h"
#include "trainer/model/parameters.h"
#include "trainer/train/sequence_ranks.h"

namespace sluice::train {
namespace {

using kernels::ExchangeMode;

constexpr std::int64_t kBatches = 3;
constexpr std::int64_t kOperations = 6;  // of a batch
constexpr std::int64_t kMostRows = 1024;
constexpr std::int64_t kMostRowsOfGpu = 4096;
constexpr std::int64_t kMostColumns = std::int64_t{1} << 15;
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

/// Two tensors of so many bytes that an operation exchanges.
using Operation = std::function<void(const at::Tensor& send, const at::Tensor& receive)>;
using Tensors = std::function<at::Tensor(std::int64_t elements)>;

std::vector<std::int64_t> message_sizes(c10::Device device) {
  return device.is_cuda() ? std::vector<std::int64_t>{1 << 18, 1 << 25}
                          : std::vector<std::int64_t>{1 << 16, 1 << 22};
}

/// What it takes: a line through two sizes.
parallel::LinkModel time_link(parallel::Communicator& ranks, c10::Device device, const Tensors& tensors,
                              const Operation& operation) {
  std::vector<parallel::TimedExchange> timed;
  for (const std::int64_t bytes : message_sizes(device)) {
    const std::int64_t chunk = bytes / (ranks.size() * static_cast<std::int64_t>(sizeof(float)));
    const at::Tensor send = tensors(chunk * ranks.size());
    const at::Tensor receive = tensors(chunk * ranks.size());
    const double seconds = time_once(
        device, [&] { ranks.barrier(); }, [&] { operation(send, receive); });
    timed.push_back({static_cast<std::int64_t>(send.nbytes()), seconds});
  }
  return parallel::fit_link(timed);
}

/// A product [rows, rows] by [rows, columns], and what it takes.
struct Product {
  at::Tensor weight;
  at::Tensor values;
  at::Tensor out;

  void run() { at::mm_out(out, weight, values); }
  [[nodiscard]] double flops() const {
    return 2 * static_cast<double>(weight.numel()) * static_cast<double>(values.size(1));
  }
};

/// As large as one of the step: all sequences' channels side by side.
Product make_product(const ExchangeShape& shape, std::int64_t channels, c10::Device device) {
  const at::ScalarType type = shape.compute_bytes == 2   ? at::kBFloat16
                              : shape.compute_bytes == 8 ? at::kDouble
                                                         : at::kFloat;
  const at::TensorOptions options = at::TensorOptions().dtype(type).device(device);
  const std::int64_t rows = std::min(shape.rows.most(), device.is_cuda() ? kMostRowsOfGpu : kMostRows);
  const std::int64_t columns = device.is_cuda() ? std::min(shape.batch * channels, kMostColumns) : channels;
  return {at::zeros({rows, rows}, options), at::zeros({rows, columns}, options),
          at::empty({rows, columns}, options)};
}

double time_product(const ExchangeShape& shape, std::int64_t channels, c10::Device device) {
  Product product = make_product(shape, channels, device);
  return product.flops() / time_once(
                               device, [] {}, [&] { product.run(); });
}

/// The share of a message's time that products beside it do not lose: 0 where it is as if they had waited.
double time_hidden(parallel::Communicator& ranks, const Tensors& tensors, Product product,
                   const std::function<parallel::Work(const at::Tensor&, const at::Tensor&)>& start) {
  const c10::Device device = product.out.device();
  if (!device.is_cuda()) return 0;  // MPI moves messages while somebody waits for them
  const std::int64_t elements = message_sizes(device).back() / static_cast<std::int64_t>(sizeof(float));
  const at::Tensor send = tensors(elements);
  const at::Tensor receive = tensors(elements);
  const auto together = [&] { ranks.barrier(); };
  const double message = time_once(device, together, [&] { start(send, receive).wait(); });
  const double alone = time_once(device, together, [&] { product.run(); });
  const auto products = static_cast<std::int64_t>(std::ceil(2 * message / alone));
  const double both = time_once(device, together, [&] {
    parallel::Work work = start(send, receive);
    for (std::int64_t i = 0; i < products; ++i) product.run();
    work.wait();
  });
  return std::clamp(1 - (both - static_cast<double>(products) * alone) / message, 0.0, 1.0);
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
  const Tensors plain = [&](std::int64_t elements) {
    return at::zeros({elements}, at::TensorOptions().dtype(at::kFloat).device(device));
  };
  const Tensors staged = [&](std::int64_t elements) {
    return row.exchange_buffer(elements, at::kFloat, device);
  };
  const auto gather = [&](const at::Tensor& send, const at::Tensor&) { return row.all_gather_async(send); };
  const auto pass = [&](const at::Tensor& send, const at::Tensor& receive) {
    return row.exchange_async(send, (row.rank() + ranks - 1) % ranks, receive, (row.rank() + 1) % ranks);
  };
  const auto all_to_all = [&](const at::Tensor& send, const at::Tensor& receive) {
    row.all_to_all_async(send, receive).wait();
  };
  ExchangeRates rates;
  rates.all_to_all = time_link(row, device, plain, all_to_all);
  rates.all_gather = time_link(row, device, staged, [&](const at::Tensor& send, const at::Tensor& receive) {
    gather(send, receive).wait();
  });
  // Copy engines do not add: make_sequence_exchange sums by an all-to-all and a pass.
  rates.reduce_scatter = row.has_copy_engines()
                             ? time_link(row, device, staged, all_to_all)
                             : time_link(row, device, plain, [&](const at::Tensor& send, const at::Tensor&) {
                                 row.reduce_scatter_async(send).wait();
                               });
  rates.pass = time_link(row, device, plain, [&](const at::Tensor& send, const at::Tensor& receive) {
    pass(send, receive).wait();
  });
  rates.all_reduce = time_link(row, device, plain, [&](const at::Tensor& send, const at::Tensor&) {
    row.all_reduce_async(send, parallel::ReduceOp::kSum).wait();
  });
  rates.passes_hidden = time_hidden(row, plain, make_product(shape, shape.channels, device), pass);
  rates.gathers_hidden = time_hidden(row, staged, make_product(shape, shape.channels, device), gather);
  world.barrier();
  rates.flops_per_s = time_product(shape, shape.channels, device);
  rates.narrow_flops_per_s = time_product(shape, width, device);
  rates.pass_bytes_per_s = time_pass(device);
  rates.skips_triangle = device.is_cuda();
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
  if (group.device().is_cuda()) row = sequence_communicator(options, std::move(row), group.device());
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
