#include "parallel/communicator.h"

#include <ATen/ops/zeros.h>
#include <c10/util/Exception.h>

#include <sstream>
#include <utility>

namespace sluice::parallel {
namespace {

const char* op_name(ReduceOp op) {
  switch (op) {
    case ReduceOp::kSum:
      return "sum";
    case ReduceOp::kMin:
      return "min";
    case ReduceOp::kMax:
      return "max";
  }
  TORCH_CHECK(false, "ReduceOp has no value ", static_cast<int>(op));
}

std::string describe(const at::Tensor& tensor) {
  std::ostringstream text;
  text << tensor.scalar_type() << tensor.sizes();
  return text.str();
}

/// Of two contiguous tensors.
void check_apart(const char* operation, const at::Tensor& send, const at::Tensor& receive) {
  const auto begin = reinterpret_cast<std::uintptr_t>(send.const_data_ptr());
  const auto other = reinterpret_cast<std::uintptr_t>(receive.const_data_ptr());
  TORCH_CHECK(send.nbytes() == 0 || receive.nbytes() == 0 || begin >= other + receive.nbytes() ||
                  other >= begin + send.nbytes(),
              operation, ": the buffers overlap, they begin ", begin > other ? begin - other : other - begin,
              " bytes apart and have ", send.nbytes(), " and ", receive.nbytes());
}

/// The ranks that gave the same part as `rank`.
std::vector<std::int64_t> members_of(const std::vector<std::string>& parts, std::int64_t rank) {
  std::vector<std::int64_t> members;
  for (std::size_t other = 0; other < parts.size(); ++other)
    if (parts[other] == parts[static_cast<std::size_t>(rank)])
      members.push_back(static_cast<std::int64_t>(other));
  return members;
}

/// A fault seen here stays with the communicator (see Work), so the destructor need not carry it.
void finish_quietly(std::unique_ptr<Work::Handle> handle) noexcept {
  if (!handle) return;
  try {
    handle->wait();
  } catch (...) {  // NOLINT(bugprone-empty-catch)
  }
}

}  // namespace

Work::Work(std::unique_ptr<Handle> handle) : handle_(std::move(handle)) {}

Work::~Work() { finish_quietly(std::move(handle_)); }

Work& Work::operator=(Work&& other) noexcept {
  if (this != &other) {
    finish_quietly(std::move(handle_));
    handle_ = std::move(other.handle_);
    done_ = other.done_;
  }
  return *this;
}

bool Work::test() {
  // The handle stays: of a stream-ordered exchange only wait() makes the current stream wait.
  done_ = done_ || handle_ == nullptr || handle_->test();
  return done_;
}

void Work::wait() {
  // Moved out first: after a fault the destructor must not wait a second time.
  if (const auto handle = std::move(handle_)) handle->wait();
}

Communicator::Blocking::Blocking(Communicator& communicator, std::string name, std::int64_t sequence)
    : trace_(communicator.trace()) {
  const std::lock_guard lock(trace_.pending_mutex_);
  outer_ = std::exchange(trace_.pending_,
                         PendingOperation{communicator.named(std::move(name)), sequence,
                                          std::chrono::steady_clock::now(), &communicator.counter()});
}

Communicator::Blocking::~Blocking() {
  const std::lock_guard lock(trace_.pending_mutex_);
  trace_.pending_ = std::move(outer_);
}

/// An asynchronous operation whose wait() is traced like any blocking one.
class Communicator::TracedHandle : public Work::Handle {
 public:
  TracedHandle(Communicator& communicator, std::string name, std::int64_t sequence,
               std::unique_ptr<Work::Handle> inner)
      : communicator_(communicator), name_(std::move(name)), sequence_(sequence), inner_(std::move(inner)) {}
  bool test() override { return inner_->test(); }
  void wait() override {
    const Blocking blocking(communicator_, name_, sequence_);
    inner_->wait();
  }

 private:
  Communicator& communicator_;
  std::string name_;
  std::int64_t sequence_;
  std::unique_ptr<Work::Handle> inner_;
};

void Communicator::check_tensor(const char* operation, const at::Tensor& tensor) const {
  TORCH_CHECK(tensor.defined(), operation, ": the tensor is undefined");
  TORCH_CHECK(tensor.layout() == at::kStrided && tensor.is_contiguous(), operation,
              ": needs a contiguous tensor, got sizes ", tensor.sizes(), " layout ", tensor.layout());
  TORCH_CHECK(size() == 1 || takes(tensor.device()), operation, ": the ", name(), " communicator of rank ",
              rank(), " exchanges no tensors of device ", tensor.device());
}

void Communicator::check_reducible(const char* operation, const at::Tensor& tensor) const {
  check_tensor(operation, tensor);
  const auto type = tensor.scalar_type();
  TORCH_CHECK(type == at::kFloat || type == at::kDouble || type == at::kLong || type == at::kInt ||
                  (type == at::kBFloat16 && tensor.is_cuda()),
              operation, ": allowed types are float32, float64, int64, int32, on a GPU bfloat16, got ", type,
              " on ", tensor.device());
}

void Communicator::check_chunks(const char* operation, const at::Tensor& tensor) const {
  TORCH_CHECK(tensor.numel() % size() == 0, operation, ": ", tensor.numel(),
              " elements are not a multiple of ", size(), " ranks");
}

void Communicator::check_root(const char* operation, std::int64_t root) const {
  TORCH_CHECK(root >= 0 && root < size(), operation, ": root ", root, " is not a rank of a group of ",
              size());
}

std::int64_t Communicator::count_operation() {
  Communicator& counting = counter();
  counting.do_publish(++counting.sequence_);
  return counting.sequence_;
}

std::int64_t Communicator::enter(const std::string& signature) {
  const std::int64_t sequence = count_operation();
  if (cross_check_ == CrossCheck::kOff || size() == 1) return sequence;
  const Blocking blocking(*this, "cross check of " + signature, sequence);
  const auto all = do_all_gather(signature);
  for (std::size_t other = 0; other < all.size(); ++other)
    TORCH_CHECK(all[other] == all[0], "ranks called different operations: rank 0 ", all[0], ", rank ", other,
                " ", all[other]);
  return sequence;
}

void Communicator::all_reduce(const at::Tensor& tensor, ReduceOp op) {
  check_reducible("all_reduce", tensor);
  const std::string name = std::string("all_reduce ") + op_name(op) + " " + describe(tensor);
  const Blocking blocking(*this, name, enter(name));
  do_all_reduce(tensor, op)->wait();
}

Work Communicator::all_reduce_async(const at::Tensor& tensor, ReduceOp op) {
  check_reducible("all_reduce_async", tensor);
  std::string name = std::string("all_reduce_async ") + op_name(op) + " " + describe(tensor);
  const std::int64_t sequence = enter(name);
  return Work(std::make_unique<TracedHandle>(*this, std::move(name), sequence, do_all_reduce(tensor, op)));
}

Work Communicator::reduce_scatter_async(const at::Tensor& tensor) {
  check_reducible("reduce_scatter_async", tensor);
  check_chunks("reduce_scatter_async", tensor);
  std::string name = "reduce_scatter_async " + describe(tensor);
  const std::int64_t sequence = enter(name);
  return Work(std::make_unique<TracedHandle>(*this, std::move(name), sequence, do_reduce_scatter(tensor)));
}

Work Communicator::all_gather_async(const at::Tensor& tensor) {
  check_tensor("all_gather_async", tensor);
  check_chunks("all_gather_async", tensor);
  std::string name = "all_gather_async " + describe(tensor);
  const std::int64_t sequence = enter(name);
  return Work(std::make_unique<TracedHandle>(*this, std::move(name), sequence, do_all_gather_tensor(tensor)));
}

Work Communicator::all_to_all_async(const at::Tensor& send, const at::Tensor& receive) {
  check_tensor("all_to_all_async", send);
  check_tensor("all_to_all_async", receive);
  check_chunks("all_to_all_async", send);
  TORCH_CHECK(send.sizes() == receive.sizes() && send.scalar_type() == receive.scalar_type() &&
                  send.device() == receive.device(),
              "all_to_all_async: sends ", describe(send), " on ", send.device(), ", but receives into ",
              describe(receive), " on ", receive.device());
  check_apart("all_to_all_async", send, receive);
  std::string name = "all_to_all_async " + describe(send);
  const std::int64_t sequence = enter(name);
  return Work(std::make_unique<TracedHandle>(*this, std::move(name), sequence, do_all_to_all(send, receive)));
}

Work Communicator::exchange_async(const at::Tensor& send, std::int64_t to, const at::Tensor& receive,
                                  std::int64_t from) {
  check_tensor("exchange_async", send);
  check_tensor("exchange_async", receive);
  check_root("exchange_async", to);
  check_root("exchange_async", from);
  TORCH_CHECK(send.scalar_type() == receive.scalar_type() && send.device() == receive.device(),
              "exchange_async: sends ", describe(send), " on ", send.device(), ", but receives into ",
              describe(receive), " on ", receive.device());
  check_apart("exchange_async", send, receive);
  std::string name = "exchange_async";  // lengths differ over ranks
  const std::int64_t sequence = enter(name);
  return Work(
      std::make_unique<TracedHandle>(*this, std::move(name), sequence, do_exchange(send, to, receive, from)));
}

Work Communicator::deal_async(const at::Tensor& send, const std::vector<at::Tensor>& receive) {
  TORCH_CHECK(has_host_memory(), "deal_async: ranks of the ", name(),
              " group exchange nothing through the host");
  check_tensor("deal_async", send);
  check_chunks("deal_async", send);
  TORCH_CHECK(static_cast<std::int64_t>(receive.size()) == size(), "deal_async: ", receive.size(),
              " places of ", size(), " ranks");
  for (std::int64_t from = 0; from < size(); ++from) {
    if (from == rank()) continue;
    const at::Tensor& place = receive[static_cast<std::size_t>(from)];
    check_tensor("deal_async", place);
    TORCH_CHECK(place.numel() * size() == send.numel() && place.scalar_type() == send.scalar_type() &&
                    place.device() == send.device(),
                "deal_async: sends chunks of ", describe(send), " on ", send.device(), ", but receives into ",
                describe(place), " on ", place.device());
  }
  std::string name = "deal_async " + describe(send);
  const std::int64_t sequence = enter(name);
  return Work(std::make_unique<TracedHandle>(*this, std::move(name), sequence, do_deal(send, receive)));
}

std::vector<at::Tensor> Communicator::peer_views(const at::Tensor& part) const {
  TORCH_CHECK(has_peer_memory(), "peer_views: ranks of the ", name(), " group reach no other's memory");
  auto views = do_peer_views(part);
  TORCH_CHECK(static_cast<std::int64_t>(views.size()) == size() - 1, "peer_views: ", describe(part),
              " is not of an exchange buffer");
  return views;
}

Work Communicator::meet_async() {
  TORCH_CHECK(has_peer_memory(), "meet_async: ranks of the ", name(), " group reach no other's memory");
  std::string name = "meet_async";
  const std::int64_t sequence = enter(name);
  return Work(std::make_unique<TracedHandle>(*this, std::move(name), sequence, do_meet()));
}

std::vector<at::Tensor> Communicator::do_peer_views(const at::Tensor& /*part*/) const { return {}; }
std::unique_ptr<Work::Handle> Communicator::do_meet() { return nullptr; }
std::unique_ptr<Work::Handle> Communicator::do_deal(const at::Tensor& /*send*/,
                                                    const std::vector<at::Tensor>& /*receive*/) {
  return nullptr;
}

std::unique_ptr<Communicator> Communicator::split(std::int64_t part) {
  TORCH_CHECK(part >= 0 && part < size(), "split: part ", part, " of a group of ", size());
  const std::string name = "split";
  const Blocking blocking(*this, name, enter(name));
  auto group = do_split(part);
  group->set_cross_check(cross_check_);
  group->split_off(*this, members_of(do_all_gather(std::to_string(part)), rank()));
  return group;
}

void Communicator::broadcast(const at::Tensor& tensor, std::int64_t root) {
  check_tensor("broadcast", tensor);
  check_root("broadcast", root);
  const std::string name = "broadcast " + describe(tensor) + " from rank " + std::to_string(root);
  const Blocking blocking(*this, name, enter(name));
  do_broadcast(tensor, root);
}

std::string Communicator::broadcast(std::string bytes, std::int64_t root) {
  check_root("broadcast", root);
  const std::string name = "broadcast of bytes from rank " + std::to_string(root);
  const Blocking blocking(*this, name, enter(name));
  return do_broadcast_bytes(std::move(bytes), root);
}

std::vector<std::string> Communicator::all_gather(std::string_view bytes) {
  const std::string name = "all_gather";
  const Blocking blocking(*this, name, enter(name));
  return do_all_gather(bytes);
}

void Communicator::barrier() {
  const std::string name = "barrier";
  const Blocking blocking(*this, name, enter(name));
  do_barrier();
}

at::Tensor Communicator::exchange_buffer(std::int64_t elements, at::ScalarType dtype, at::Device device) {
  TORCH_CHECK(elements >= 0 && (size() == 1 || takes(device)), "exchange_buffer: the ", name(),
              " communicator of rank ", rank(), " has no ", elements, " elements on ", device);
  const std::string name = "exchange_buffer of " + std::to_string(elements) + " elements";
  const Blocking blocking(*this, name, enter(name));
  return do_exchange_buffer(elements, dtype, device);
}

at::Tensor Communicator::do_exchange_buffer(std::int64_t elements, at::ScalarType dtype, at::Device device) {
  return at::zeros({elements}, at::TensorOptions().dtype(dtype).device(device));
}

Communicator::Blocking Communicator::blocking(std::string name) {
  return {*this, std::move(name), count_operation()};
}

std::optional<PendingOperation> Communicator::pending() const {
  const Communicator& traced = trace();
  const std::lock_guard lock(traced.pending_mutex_);
  return traced.pending_;
}

std::vector<std::int64_t> Communicator::missing_ranks(std::int64_t sequence) const {
  std::vector<std::int64_t> missing;
  const Communicator& own = counter();
  const auto published = own.do_published();
  for (std::size_t other = 0; other < published.size(); ++other)
    if (published[other] >= 0 && published[other] < sequence)
      missing.push_back(own.parent_ ? own.members_[other] : static_cast<std::int64_t>(other));
  return missing;
}

std::vector<std::int64_t> Communicator::missing_ranks(const PendingOperation& operation) const {
  const Communicator& traced = trace();
  const std::lock_guard lock(traced.pending_mutex_);  // as long as it is pending its group is there
  const auto& pending = traced.pending_;
  if (!pending || pending->group != operation.group || pending->sequence != operation.sequence) return {};
  return operation.group->missing_ranks(operation.sequence);
}

void Communicator::split_off(Communicator& parent, std::vector<std::int64_t> members) {
  parent_ = &parent;
  members_ = std::move(members);
  if (const Communicator& above = parent.counter(); above.parent_)
    for (std::int64_t& member : members_) member = above.members_[static_cast<std::size_t>(member)];
}

/// Of a group that was split off with whom it is.
std::string Communicator::named(std::string operation) const {
  const Communicator& own = counter();
  if (!own.parent_) return operation;
  operation += " among ranks";
  for (std::size_t index = 0; index < own.members_.size(); ++index)
    operation += (index > 0 ? ", " : " ") + std::to_string(own.members_[index]);
  return operation;
}

}  // namespace sluice::parallel
