#include "parallel/nccl_group.h"

#include <cstring>
#include <future>
#include <thread>

#include "parallel/agree.h"

namespace sluice::parallel {
namespace {

using NcclClock = std::chrono::steady_clock;

constexpr std::chrono::seconds kAbortLimit{3};
constexpr std::chrono::seconds kDestroyLimit{30};

std::string seconds_text(std::chrono::milliseconds limit) {
  return std::to_string(static_cast<double>(limit.count()) / 1000.0) + " s";
}

/// Rank 0's; NCCL's ranks find each other through it.
ncclUniqueId agree_on_id(Communicator& host) {
  ncclUniqueId id{};
  on_all_ranks(host, [&] {
    if (host.rank() != 0) return;
    if (const ncclResult_t result = ncclGetUniqueId(&id); result != ncclSuccess)
      throw NcclError("ncclGetUniqueId", ncclGetErrorString(result), host.rank());
  });
  const std::string bytes = host.broadcast(std::string(id.internal, sizeof(id.internal)), 0);
  std::memcpy(id.internal, bytes.data(), sizeof(id.internal));
  return id;
}

/// In a thread of its own: NCCL's clean-up waits for graphs that hold the group's operations, perhaps for
/// ever.
template <typename Call>
void run_for(std::chrono::milliseconds limit, Call call) noexcept {
  try {
    auto done = std::make_shared<std::promise<void>>();
    auto finished = done->get_future();
    std::thread([done, call] {
      call();
      done->set_value();
    }).detach();
    finished.wait_for(limit);
  } catch (...) {  // NOLINT(bugprone-empty-catch): no thread, no clean-up
  }
}

}  // namespace

NcclGroup::NcclGroup(Communicator& host, NcclOptions options)
    : host_(host), options_(options), exceptions_at_start_(std::uncaught_exceptions()) {
  const ncclUniqueId id = agree_on_id(host);
  try {
    on_all_ranks(host, [&] {
      ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
      config.blocking = options.calls == NcclCalls::kBlocking ? 1 : 0;
      if (options.movers == Movers::kCopyEngines) config.CTAPolicy = NCCL_CTA_POLICY_ZERO;
      const std::lock_guard lock(calls_);
      settle("ncclCommInitRankConfig", ncclCommInitRankConfig(&comm_, static_cast<int>(host.size()), id,
                                                              static_cast<int>(host.rank()), &config));
    });
  } catch (...) {
    give_up();  // where it was another rank that failed
    throw;
  }
}

NcclGroup::~NcclGroup() {
  const std::lock_guard lock(calls_);
  if (is_healthy())
    destroy();
  else
    give_up();
}

bool NcclGroup::is_healthy() const {
  return !fault_ && !aborting_ && std::uncaught_exceptions() <= exceptions_at_start_;
}

void NcclGroup::check() {
  // While another thread is in a call, that call sees the fault.
  const std::unique_lock lock(calls_, std::try_to_lock);
  if (!lock.owns_lock()) return;
  if (fault_) std::rethrow_exception(fault_);
  ncclResult_t result = ncclSuccess;
  const ncclResult_t query = ncclCommGetAsyncError(comm_, &result);
  if (query != ncclSuccess) result = query;
  if (result == ncclSuccess || result == ncclInProgress) return;
  const auto waiting = host_.pending();
  fail(waiting ? waiting->name.c_str() : "a collective of NCCL", ncclGetErrorString(result));
}

void NcclGroup::abort() noexcept {
  aborting_ = true;  // a thread that polls sees it and lets go of the lock
  const std::unique_lock lock(calls_, kAbortLimit);
  if (lock.owns_lock()) give_up();
}

void NcclGroup::settle(const char* call, ncclResult_t result) {
  const auto deadline = NcclClock::now() + options_.limit;
  while (result == ncclInProgress) {
    if (aborting_) fail(call, "the job is being aborted");
    if (NcclClock::now() > deadline) fail(call, "not done after " + seconds_text(options_.limit));
    std::this_thread::yield();
    const ncclResult_t query = ncclCommGetAsyncError(comm_, &result);
    if (query != ncclSuccess) result = query;
  }
  if (result == ncclSuccess) return;
  const char* detail = ncclGetLastError(comm_);
  fail(call, std::string(ncclGetErrorString(result)) + (detail && *detail ? std::string(": ") + detail : ""));
}

void NcclGroup::fail(const char* call, const std::string& code_text) {
  fault_ = std::make_exception_ptr(NcclError(call, code_text, host_.rank()));
  give_up();
  std::rethrow_exception(fault_);
}

/// With the lock held. What was not aborted in time is left to the end of the process.
void NcclGroup::give_up() noexcept {
  if (const ncclComm_t comm = std::exchange(comm_, nullptr))
    run_for(kAbortLimit, [comm] { ncclCommAbort(comm); });
  if (!fault_)
    fault_ =
        std::make_exception_ptr(NcclError("a collective of NCCL", "the group was aborted", host_.rank()));
}

void NcclGroup::destroy() noexcept {
  const ncclComm_t comm = std::exchange(comm_, nullptr);
  if (comm == nullptr) return;
  run_for(kDestroyLimit, [comm] {
    ncclResult_t result = ncclCommFinalize(comm);
    while (result == ncclInProgress) {
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
      const ncclResult_t query = ncclCommGetAsyncError(comm, &result);
      if (query != ncclSuccess) result = query;
    }
    if (result == ncclSuccess) ncclCommDestroy(comm);
  });
}

}  // namespace sluice::parallel
