#include "dataio/loader.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <exception>
#include <mutex>
#include <new>
#include <optional>
#include <stdexcept>
#include <string>
#include <system_error>
#include <thread>
#include <vector>

namespace sluice::dataio {
namespace {

using Clock = std::chrono::steady_clock;

/// Memory of one micro-batch, and what is being put there.
struct Slot {
  std::span<std::int32_t> tokens;
  std::int64_t step = 0;
  std::int64_t micro = 0;
  SampleRange samples;
  std::int64_t rows_claimed = 0;
  std::int64_t rows_filled = 0;
  std::exception_ptr error;
};

/// Some rows of a micro-batch, for one thread to fill without a lock.
struct Item {
  Slot* slot = nullptr;
  std::int64_t first_row = 0;
  std::int64_t rows = 0;
};

/// A read that takes longer than this waits for something that is not this core: then many should be under
/// way, one row each. The page cache serves a row in a few microseconds; a disk or a file server takes 50 and
/// more.
constexpr double kSlowRow_s = 40e-6;
/// Rows filled between two uses of the lock while reads are fast.
constexpr std::int64_t kFastItemRows = 64;
/// A ring of less memory than this may hold more batches than were asked for.
constexpr std::int64_t kShortRingBytes = 1 << 17;

std::shared_ptr<void> ordinary_memory(std::size_t bytes) {
  constexpr std::align_val_t kCacheLine{64};
  return {::operator new(bytes, kCacheLine), [](void* memory) { ::operator delete(memory, kCacheLine); }};
}

void check_readers(const std::vector<std::shared_ptr<SplitReader>>& readers, const MixedOrder& order) {
  if (readers.size() != order.orders().size()) {
    throw std::invalid_argument("Loader: the order has " + std::to_string(order.orders().size()) +
                                " parts, and there are " + std::to_string(readers.size()) + " readers");
  }
  for (std::size_t part = 0; part < readers.size(); ++part) {
    const std::int64_t planned = order.orders()[part].plan().split_tokens;
    const std::int64_t there = readers[part]->split().tokens;
    if (planned == there) continue;
    throw std::invalid_argument("Loader: the order is of " + std::to_string(planned) +
                                " tokens, the split has " + std::to_string(there));
  }
}

}  // namespace

/// Slots go round: free -> in work (in the order of the batches) -> leased to the consumer -> free. Shared by
/// the loader, its threads and the leases, which may outlive the loader.
struct Loader::Impl {
  std::vector<std::shared_ptr<SplitReader>> readers;  ///< of the order's parts
  MixedOrder order;
  Slicing slicing;
  std::int64_t row_tokens;
  RowForm form;
  std::int64_t reader_threads;
  std::shared_ptr<void> memory;
  std::vector<Slot> slots;

  std::mutex mutex;
  std::condition_variable work;   ///< rows can be claimed, or the end has come
  std::condition_variable ready;  ///< a micro-batch is whole, or no item is in work any more
  std::vector<Slot*> free;
  std::deque<Slot*> in_work;
  std::int64_t next_step;
  std::int64_t next_micro = 0;
  std::int64_t items_in_work = 0;
  std::int64_t idle_threads = 0;
  bool stopping = false;
  bool paused = false;  ///< by seek(): nobody claims
  double row_s = 0;     ///< how long a row took lately
  double waited_s = 0;
  std::vector<std::thread> threads;

  Impl(std::vector<std::shared_ptr<SplitReader>> split_readers, MixedOrder sample_order, Slicing ranks,
       std::int64_t first_step)
      : readers(std::move(split_readers)),
        order(std::move(sample_order)),
        slicing(ranks),
        row_tokens(order.seq_len() + 1),
        reader_threads(0),
        next_step(first_step) {}

  void allocate(const LoaderOptions& options);
  [[nodiscard]] bool is_whole(const Slot& slot) const { return slot.rows_filled == slicing.micro_batch; }
  [[nodiscard]] bool is_slow() const { return row_s > kSlowRow_s; }
  [[nodiscard]] bool can_claim() const {
    return !free.empty() || (!in_work.empty() && in_work.back()->rows_claimed < slicing.micro_batch);
  }
  void open_slot();
  std::optional<Item> claim();
  void fill(const Item& item);
  void fill_rows(const Item& item) const;
  void fill_row(std::int64_t sample, std::span<std::int32_t> out) const;
  void finish(const Item& item, std::exception_ptr error, double seconds);
  void call_thread();
  void run_thread();
  void give_back(Slot* slot);
  Slot* take_head(std::unique_lock<std::mutex>& lock);
};

void Loader::Impl::allocate(const LoaderOptions& options) {
  reader_threads = options.reader_threads;
  form = options.form;
  if (form.make) row_tokens = form.width;
  // Enough rows that slow reads keep all threads busy however small a micro-batch is, and, where rows are
  // short, that a thread which is woken has work for longer than waking it took.
  const auto row_bytes = row_tokens * static_cast<std::int64_t>(sizeof(std::int32_t));
  const auto rows = std::max(2 * reader_threads, kShortRingBytes / row_bytes);
  const auto count = std::max(options.ring_batches, (rows + slicing.micro_batch - 1) / slicing.micro_batch);
  const auto slot_tokens = slicing.micro_batch * row_tokens;
  const auto bytes = static_cast<std::size_t>(count * slot_tokens) * sizeof(std::int32_t);
  memory = options.allocate ? options.allocate(bytes) : ordinary_memory(bytes);
  slots.resize(static_cast<std::size_t>(count));
  auto* tokens = static_cast<std::int32_t*>(memory.get());
  for (auto& slot : slots) {
    slot.tokens = {tokens, static_cast<std::size_t>(slot_tokens)};
    tokens += slot_tokens;
    free.push_back(&slot);
  }
}

/// The next micro-batch gets a free slot.
void Loader::Impl::open_slot() {
  auto& slot = *free.back();
  free.pop_back();
  slot.step = next_step;
  slot.micro = next_micro;
  slot.samples = slicing.micro_slice(next_step, next_micro);
  slot.rows_claimed = 0;
  slot.rows_filled = 0;
  slot.error = nullptr;
  in_work.push_back(&slot);
  if (++next_micro == slicing.micro_batches()) {
    next_micro = 0;
    ++next_step;
  }
}

/// The next rows in the order of the batches. Needs the lock.
std::optional<Item> Loader::Impl::claim() {
  if (stopping || paused || !can_claim()) return std::nullopt;
  if (in_work.empty() || in_work.back()->rows_claimed == slicing.micro_batch) open_slot();
  auto& slot = *in_work.back();
  const auto rows = std::min(is_slow() ? 1 : kFastItemRows, slicing.micro_batch - slot.rows_claimed);
  const Item item{&slot, slot.rows_claimed, rows};
  slot.rows_claimed += rows;
  ++items_in_work;
  if (is_slow() && can_claim()) call_thread();
  return item;
}

void Loader::Impl::fill_row(std::int64_t sample, std::span<std::int32_t> out) const {
  const auto [part, window] = order.sample(sample);
  SplitReader& reader = *readers[static_cast<std::size_t>(part)];
  if (!form.make) return reader.read(window.begin, out);
  thread_local std::vector<std::int32_t> tokens;
  tokens.resize(static_cast<std::size_t>(window.end - window.begin));
  reader.read(window.begin, tokens);
  form.make(sample, tokens, out);
}

void Loader::Impl::fill_rows(const Item& item) const {
  for (std::int64_t row = item.first_row; row < item.first_row + item.rows; ++row) {
    const auto out = item.slot->tokens.subspan(static_cast<std::size_t>(row * row_tokens),
                                               static_cast<std::size_t>(row_tokens));
    if (row < item.slot->samples.count) {
      fill_row(item.slot->samples.first + row, out);
    } else {
      std::ranges::fill(out, 0);
    }
  }
}

void Loader::Impl::fill(const Item& item) {
  const auto begin = Clock::now();
  std::exception_ptr error;
  try {
    fill_rows(item);
  } catch (...) {
    error = std::current_exception();  // thrown again by next(), when its turn comes
  }
  finish(item, error, std::chrono::duration<double>(Clock::now() - begin).count());
}

void Loader::Impl::finish(const Item& item, std::exception_ptr error, double seconds) {
  std::unique_lock lock(mutex);
  auto& slot = *item.slot;
  slot.rows_filled += item.rows;
  if (error && !slot.error) slot.error = error;
  --items_in_work;
  row_s += (seconds / static_cast<double>(item.rows) - row_s) / 8;
  if (!is_whole(slot) && items_in_work > 0) return;
  lock.unlock();
  ready.notify_all();
}

/// Wakes a thread that has nothing to do, or starts one more. Needs the lock.
void Loader::Impl::call_thread() {
  if (idle_threads > 0) {
    work.notify_one();
  } else if (std::ssize(threads) < reader_threads) {
    try {
      threads.emplace_back([this] { run_thread(); });
    } catch (const std::system_error&) {
      if (threads.empty()) throw;
      reader_threads = std::ssize(threads);  // the system gives no more: go on with those there are
    }
  }
}

void Loader::Impl::run_thread() {
  std::unique_lock lock(mutex);
  while (!stopping) {
    if (const auto item = claim()) {
      lock.unlock();
      fill(*item);
      lock.lock();
    } else {
      ++idle_threads;
      work.wait(lock);
      --idle_threads;
    }
  }
}

void Loader::Impl::give_back(Slot* slot) {
  std::unique_lock lock(mutex);
  free.push_back(slot);
  // While reads are fast a thread is woken for half a ring at a time: waking costs more than filling a batch.
  if (stopping || !(is_slow() || 2 * free.size() >= slots.size())) return;
  if (idle_threads == 0) return call_thread();
  lock.unlock();  // the woken thread wants it at once
  work.notify_one();
}

/// Waits until the oldest micro-batch is whole, and fills rows of it where nobody has begun to.
Slot* Loader::Impl::take_head(std::unique_lock<std::mutex>& lock) {
  if (in_work.empty() && free.empty()) {
    throw std::logic_error("Loader: all " + std::to_string(slots.size()) +
                           " batches of the ring are still leased");
  }
  while (in_work.empty() || !is_whole(*in_work.front())) {
    const bool head_is_open = in_work.empty() || in_work.front()->rows_claimed < slicing.micro_batch;
    if (head_is_open) {
      const auto item = claim();
      lock.unlock();
      fill(*item);
      lock.lock();
    } else {
      ready.wait(lock);
    }
  }
  auto* head = in_work.front();
  if (head->error) std::rethrow_exception(head->error);
  in_work.pop_front();
  return head;
}

Loader::Loader(std::shared_ptr<SplitReader> reader, const Order& order, Slicing slicing,
               LoaderOptions options, std::int64_t first_step)
    : Loader(std::vector{std::move(reader)}, order, slicing, std::move(options), first_step) {}

Loader::Loader(std::vector<std::shared_ptr<SplitReader>> readers, MixedOrder order, Slicing slicing,
               LoaderOptions options, std::int64_t first_step) {
  if (slicing.global_batch < 1 || slicing.micro_batch < 1 || slicing.world_size < 1 || slicing.rank < 0 ||
      slicing.rank >= slicing.world_size) {
    throw std::invalid_argument("Loader: rank " + std::to_string(slicing.rank) + " of " +
                                std::to_string(slicing.world_size) + ", global batch " +
                                std::to_string(slicing.global_batch) + ", micro-batch " +
                                std::to_string(slicing.micro_batch));
  }
  if (options.form.width < 0 || (options.form.width > 0) != static_cast<bool>(options.form.make)) {
    throw std::invalid_argument("Loader: rows of width " + std::to_string(options.form.width) +
                                (options.form.make ? "" : ", and nothing that makes them"));
  }
  if (options.ring_batches < 1 || options.reader_threads < 1 || first_step < 0) {
    throw std::invalid_argument("Loader: a ring of " + std::to_string(options.ring_batches) + ", " +
                                std::to_string(options.reader_threads) + " threads, first step " +
                                std::to_string(first_step));
  }
  check_readers(readers, order);
  impl_ = std::make_shared<Impl>(std::move(readers), std::move(order), slicing, first_step);
  impl_->allocate(options);
  const std::lock_guard lock(impl_->mutex);
  impl_->call_thread();
}

Loader::~Loader() {
  {
    const std::lock_guard lock(impl_->mutex);
    impl_->stopping = true;
    impl_->work.notify_all();
  }
  for (auto& thread : impl_->threads) thread.join();
}

Batch Loader::next() {
  const auto impl = impl_;
  std::unique_lock lock(impl->mutex);
  Slot* slot = nullptr;
  if (!impl->in_work.empty() && impl->is_whole(*impl->in_work.front())) {
    slot = impl->take_head(lock);
  } else {
    const auto begin = Clock::now();
    slot = impl->take_head(lock);
    impl->waited_s += std::chrono::duration<double>(Clock::now() - begin).count();
  }
  lock.unlock();
  return {
      slot->step,
      slot->micro,
      slot->samples,
      slot->samples.count,
      slot->tokens,
      std::shared_ptr<void>(slot, [impl](void* pointer) { impl->give_back(static_cast<Slot*>(pointer)); })};
}

void Loader::seek(std::int64_t step) {
  if (step < 0) throw std::invalid_argument("Loader: seek to step " + std::to_string(step));
  std::unique_lock lock(impl_->mutex);
  impl_->paused = true;
  impl_->ready.wait(lock, [this] { return impl_->items_in_work == 0; });
  impl_->paused = false;
  impl_->free.insert(impl_->free.end(), impl_->in_work.begin(), impl_->in_work.end());
  impl_->in_work.clear();
  impl_->next_step = step;
  impl_->next_micro = 0;
  impl_->call_thread();
}

double Loader::waited_s() const {
  const std::lock_guard lock(impl_->mutex);
  return impl_->waited_s;
}

}  // namespace sluice::dataio
