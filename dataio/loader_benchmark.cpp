#include "dataio/loader_benchmark.h"

#include <chrono>
#include <ctime>
#include <numeric>

namespace sluice::dataio {

LoaderRate measure_loader(std::shared_ptr<SplitReader> reader, Order order, Slicing slicing,
                          LoaderOptions options, double seconds) {
  using Clock = std::chrono::steady_clock;
  Loader loader(std::move(reader), order, slicing, std::move(options), 0);
  LoaderRate rate;
  const auto cpu_begin = std::clock();
  const auto begin = Clock::now();
  do {
    const auto batch = loader.next();
    rate.tokens += batch.rows * order.plan().seq_len;
    rate.id_sum += std::reduce(batch.tokens.begin(), batch.tokens.end(), std::int64_t{0});
    rate.seconds = std::chrono::duration<double>(Clock::now() - begin).count();
  } while (rate.seconds < seconds);
  rate.cpu_s = static_cast<double>(std::clock() - cpu_begin) / CLOCKS_PER_SEC;
  rate.waited_s = loader.waited_s();
  return rate;
}

}  // namespace sluice::dataio
