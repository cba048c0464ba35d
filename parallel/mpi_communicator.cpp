#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <mutex>
#include <thread>
#include <utility>

#include "parallel/agree.h"
#include "parallel/mpi_arrivals.h"
#include "parallel/mpi_internal.h"

namespace sluice::parallel {

void MpiMessages::send(const void* data, std::int64_t bytes, std::int64_t to, int tag) {
  for (std::int64_t at = 0; at < bytes; at += message_bytes_) {
    const int count = static_cast<int>(std::min(message_bytes_, bytes - at));
    check_mpi(MPI_Isend(static_cast<const char*>(data) + at, count, MPI_BYTE, static_cast<int>(to), tag,
                        communicator_, &requests_.emplace_back(MPI_REQUEST_NULL)),
              "MPI_Isend");
  }
}

void MpiMessages::receive(void* data, std::int64_t bytes, std::int64_t from, int tag) {
  for (std::int64_t at = 0; at < bytes; at += message_bytes_) {
    const int count = static_cast<int>(std::min(message_bytes_, bytes - at));
    check_mpi(MPI_Irecv(static_cast<char*>(data) + at, count, MPI_BYTE, static_cast<int>(from), tag,
                        communicator_, &requests_.emplace_back(MPI_REQUEST_NULL)),
              "MPI_Irecv");
  }
}

bool MpiMessages::test() {
  if (requests_.empty()) return true;
  int done = 0;
  check_mpi(MPI_Testall(static_cast<int>(requests_.size()), requests_.data(), &done, MPI_STATUSES_IGNORE),
            "MPI_Testall");
  if (done) requests_.clear();
  return done != 0;
}

namespace {

/// Messages and nothing to do after them.
class Transfer final : public MpiOperation {
 public:
  explicit Transfer(MpiMessages messages) : messages_(std::move(messages)) {}
  bool advance() override { return messages_.test(); }

 private:
  MpiMessages messages_;
};

/// MPI_THREAD_SERIALIZED: one call at a time in the whole process, whichever group makes it.
std::timed_mutex& mpi_calls() {
  static std::timed_mutex calls;
  return calls;
}

class MpiCommunicator final : public Communicator {
 public:
  MpiCommunicator(MPI_Comm communicator, MpiOptions options)
      : communicator_(communicator),
        message_bytes_(options.message_bytes),
        exceptions_at_start_(std::uncaught_exceptions()) {
    check_mpi(MPI_Comm_set_errhandler(communicator_, MPI_ERRORS_RETURN), "MPI_Comm_set_errhandler");
    int number = 0;
    check_mpi(MPI_Comm_rank(communicator_, &number), "MPI_Comm_rank");
    rank_ = number;
    check_mpi(MPI_Comm_size(communicator_, &number), "MPI_Comm_size");
    size_ = number;
    arrivals_ = std::make_unique<MpiArrivals>(communicator_);
  }

  ~MpiCommunicator() override {
    // Freeing is collective: a rank that unwinds would wait for the others.
    if (std::uncaught_exceptions() > exceptions_at_start_) {
      arrivals_->forget();
      return;
    }
    arrivals_.reset();
    MPI_Comm_free(&communicator_);
  }

  [[nodiscard]] std::int64_t rank() const override { return rank_; }
  [[nodiscard]] std::int64_t size() const override { return size_; }
  [[nodiscard]] std::string name() const override { return "mpi"; }
  [[nodiscard]] Place place() const override { return arrivals_->place(); }

  void check() override {
    const auto gone = arrivals_->gone();
    if (gone.empty()) return;
    const auto waiting = pending();
    throw PeerError("the process of rank " + std::to_string(gone.front()) + " has ended" +
                    (waiting ? ", while this rank waits in " + waiting->name : ""));
  }

  [[noreturn]] void abort(int exit_code) override {
    abort_code_ = exit_code;  // a thread that polls sees it and makes the call itself
    const std::unique_lock lock(mpi_calls(), std::chrono::seconds(5));
    if (lock.owns_lock()) {
      std::fflush(nullptr);
      MPI_Abort(MPI_COMM_WORLD, exit_code);
    }
    std::_Exit(
        exit_code);  // stuck inside MPI: the launcher ends a job whose rank leaves without MPI_Finalize
  }

 private:
  class Handle;

  std::unique_ptr<Work::Handle> do_all_reduce(const at::Tensor& tensor, ReduceOp op) override {
    return start([&](MpiPlace place) { return start_mpi_all_reduce(tensor, op, std::move(place)); });
  }
  std::unique_ptr<Work::Handle> do_reduce_scatter(const at::Tensor& tensor) override {
    return start([&](MpiPlace place) { return start_mpi_reduce_scatter(tensor, std::move(place)); });
  }
  std::unique_ptr<Work::Handle> do_all_gather_tensor(const at::Tensor& tensor) override {
    return start([&](MpiPlace place) { return start_mpi_all_gather(tensor, std::move(place)); });
  }
  std::unique_ptr<Work::Handle> do_all_to_all(const at::Tensor& send, const at::Tensor& receive) override {
    return start([&](MpiPlace place) { return start_mpi_all_to_all(send, receive, std::move(place)); });
  }
  std::unique_ptr<Work::Handle> do_exchange(const at::Tensor& send, std::int64_t to,
                                            const at::Tensor& receive, std::int64_t from) override {
    return start(
        [&](MpiPlace place) { return start_mpi_exchange(send, to, receive, from, std::move(place)); });
  }
  std::unique_ptr<Communicator> do_split(std::int64_t part) override {
    MPI_Comm group = MPI_COMM_NULL;
    guarded([&] {
      check_mpi(MPI_Comm_split(communicator_, static_cast<int>(part), static_cast<int>(rank_), &group),
                "MPI_Comm_split");
    });
    return make_mpi_communicator(group, {.message_bytes = message_bytes_});
  }
  void do_broadcast(const at::Tensor& tensor, std::int64_t root) override {
    broadcast_bytes(tensor.data_ptr(), static_cast<std::int64_t>(tensor.nbytes()), root);
  }

  std::string do_broadcast_bytes(std::string bytes, std::int64_t root) override {
    auto length = static_cast<std::int64_t>(bytes.size());
    broadcast_bytes(&length, sizeof(length), root);
    bytes.resize(static_cast<std::size_t>(length));
    broadcast_bytes(bytes.data(), length, root);
    return bytes;
  }

  std::vector<std::string> do_all_gather(std::string_view bytes) override {
    const auto own = static_cast<std::int64_t>(bytes.size());
    std::vector<std::int64_t> lengths(static_cast<std::size_t>(size_), own);
    const int tag = next_tag();
    run([&](MpiMessages& messages) {
      for_each_peer([&](std::int64_t peer) {
        messages.receive(&lengths[static_cast<std::size_t>(peer)], sizeof(own), peer, tag);
        messages.send(&own, sizeof(own), peer, tag);
      });
    });
    std::vector<std::string> all(static_cast<std::size_t>(size_));
    for (std::size_t peer = 0; peer < all.size(); ++peer)
      all[peer].resize(static_cast<std::size_t>(lengths[peer]));
    all[static_cast<std::size_t>(rank_)] = bytes;
    run([&](MpiMessages& messages) {
      for_each_peer([&](std::int64_t peer) {
        auto& place = all[static_cast<std::size_t>(peer)];
        messages.receive(place.data(), static_cast<std::int64_t>(place.size()), peer, tag + 1);
        messages.send(bytes.data(), own, peer, tag + 1);
      });
    });
    return all;
  }

  void do_barrier() override {
    run([&](MpiMessages& messages) {
      MPI_Request request = MPI_REQUEST_NULL;
      check_mpi(MPI_Ibarrier(communicator_, &request), "MPI_Ibarrier");
      messages.add(request);
    });
  }

  void do_publish(std::int64_t sequence) override { arrivals_->publish(sequence); }
  [[nodiscard]] std::vector<std::int64_t> do_published() const override {
    return arrivals_->published(size_);
  }

  void broadcast_bytes(void* data, std::int64_t bytes, std::int64_t root) {
    run([&](MpiMessages& messages) {
      for (std::int64_t at = 0; at < bytes; at += message_bytes_) {
        MPI_Request request = MPI_REQUEST_NULL;
        check_mpi(
            MPI_Ibcast(static_cast<char*>(data) + at, static_cast<int>(std::min(message_bytes_, bytes - at)),
                       MPI_BYTE, static_cast<int>(root), communicator_, &request),
            "MPI_Ibcast");
        messages.add(request);
      }
    });
  }

  template <typename Visit>
  void for_each_peer(Visit visit) {
    for (std::int64_t peer = 0; peer < size_; ++peer)
      if (peer != rank_) visit(peer);
  }

  /// Two tags for each operation: ranks are at most a few operations apart, far fewer than there are tags.
  int next_tag() { return static_cast<int>(2 * (operations_++ % 16000)); }

  /// An operation on tensors, from what `make` makes of an MpiPlace.
  template <typename Make>
  std::unique_ptr<Work::Handle> start(Make make);

  /// Runs messages that `fill` starts until they are done.
  template <typename Fill>
  void run(Fill fill) {
    std::shared_ptr<MpiOperation> operation;
    guarded([&] {
      MpiMessages messages(communicator_, message_bytes_);
      fill(messages);
      operation = std::make_shared<Transfer>(std::move(messages));
      active_.push_back(operation);
    });
    wait(*operation);
  }

  /// One call into MPI at a time, and none after a fault (MpiError, PeerError).
  template <typename Call>
  void guarded(Call call) {
    const std::lock_guard lock(mpi_calls());
    if (fault_) std::rethrow_exception(fault_);
    try {
      call();
    } catch (const std::runtime_error&) {
      fault_ = std::current_exception();
      throw;
    }
  }

  /// All operations advance, whichever is waited for: two ranks that wait for different ones would else wait
  /// for ever.
  bool advance_until_idle(const MpiOperation& operation) {
    bool active = false;
    guarded([&] {
      std::erase_if(active_, [](const auto& one) { return one->advance(); });
      active = std::ranges::any_of(active_, [&](const auto& one) { return one.get() == &operation; });
    });
    return !active;
  }

  void wait(const MpiOperation& operation) {
    constexpr std::chrono::milliseconds kLook{50};
    auto next_look = std::chrono::steady_clock::now() + kLook;
    while (!advance_until_idle(operation)) {
      if (abort_code_ >= 0) MPI_Abort(MPI_COMM_WORLD, abort_code_);
      if (std::chrono::steady_clock::now() > next_look) {
        // The launcher is about to end this process too: this is the time to say what it was doing.
        guarded([this] { check(); });
        next_look += kLook;
      }
      std::this_thread::yield();
    }
  }

  MPI_Comm communicator_;
  std::int64_t message_bytes_;
  int exceptions_at_start_;
  std::int64_t rank_ = 0;
  std::int64_t size_ = 1;
  std::int64_t operations_ = 0;
  std::vector<std::shared_ptr<MpiOperation>>
      active_;  ///< kept after a fault: MPI may still write into their buffers
  std::unique_ptr<MpiArrivals> arrivals_;
  std::exception_ptr fault_;
  std::atomic<int> abort_code_{-1};
};

class MpiCommunicator::Handle : public Work::Handle {
 public:
  Handle(MpiCommunicator& communicator, std::shared_ptr<MpiOperation> operation)
      : communicator_(communicator), operation_(std::move(operation)) {}
  bool test() override { return communicator_.advance_until_idle(*operation_); }
  void wait() override { communicator_.wait(*operation_); }

 private:
  MpiCommunicator& communicator_;
  std::shared_ptr<MpiOperation> operation_;
};

template <typename Make>
std::unique_ptr<Work::Handle> MpiCommunicator::start(Make make) {
  std::shared_ptr<MpiOperation> operation;
  const int tag = next_tag();
  guarded([&] {
    operation = make(MpiPlace{rank_, size_, MpiMessages(communicator_, message_bytes_), tag});
    active_.push_back(operation);
  });
  return std::make_unique<Handle>(*this, std::move(operation));
}

}  // namespace

std::unique_ptr<Communicator> make_mpi_communicator(MPI_Comm communicator, MpiOptions options) {
  return std::make_unique<MpiCommunicator>(communicator, options);
}

}  // namespace sluice::parallel
