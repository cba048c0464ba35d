#include "dataio/open_files.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "dataio/error.h"

namespace sluice::dataio {
namespace {

/// Descriptors that all OpenFiles of the process hold: the limit is the process's, so its count is too.
std::atomic<std::int64_t>& process_open() {
  static std::atomic<std::int64_t> count{0};
  return count;
}

/// Three quarters of what the process may open: the rest is left to sockets, checkpoints and the program. The
/// soft limit is raised towards the hard one where `files` need it, since opening a shard anew costs more
/// than reading a row.
std::int64_t process_share(std::int64_t files) {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return 64;
  const auto wanted = static_cast<rlim_t>((process_open().load() + files + 64) * 4 / 3);
  if (limit.rlim_cur < wanted && limit.rlim_cur < limit.rlim_max) {
    const rlimit raised{std::min(wanted, limit.rlim_max), limit.rlim_max};
    if (::setrlimit(RLIMIT_NOFILE, &raised) == 0) limit = raised;
  }
  constexpr rlim_t kEnough = 1 << 16;
  return std::max<std::int64_t>(1, static_cast<std::int64_t>(std::min(limit.rlim_cur, kEnough)) * 3 / 4);
}

}  // namespace

OpenFiles::OpenFiles(std::vector<std::string> paths, std::int64_t max_open,
                     std::function<void(std::int64_t)> changed)
    : paths_(std::move(paths)),
      changed_(std::move(changed)),
      entries_(std::make_unique<Entry[]>(paths_.size())),
      max_open_(max_open > 0 ? max_open : process_share(std::ssize(paths_))),
      shares_process_limit_(max_open <= 0) {}

OpenFiles::~OpenFiles() {
  for (const auto file : open_) ::close(entries_[static_cast<std::size_t>(file)].descriptor);
  process_open() -= std::ssize(open_);
}

std::int64_t OpenFiles::open_count() const {
  const std::lock_guard lock(mutex_);
  return std::ssize(open_);
}

/// Counts one more user of a file that is open.
bool OpenFiles::join(Entry& entry) {
  int users = entry.users.load();
  while (users >= 0) {
    if (entry.users.compare_exchange_weak(users, users + 1)) {
      if (!entry.recent.load(std::memory_order_relaxed)) entry.recent.store(true, std::memory_order_relaxed);
      return true;
    }
  }
  return false;
}

int OpenFiles::acquire(std::int64_t file) {
  auto& entry = entries_[static_cast<std::size_t>(file)];
  return join(entry) ? entry.descriptor : open_slowly(file);
}

void OpenFiles::release(std::int64_t file) {
  // Sequentially consistent on both sides: either the waiter sees this file unused, or this sees the waiter.
  if (entries_[static_cast<std::size_t>(file)].users.fetch_sub(1) == 1 && waiting_.load() > 0) {
    const std::lock_guard lock(mutex_);
    moved_.notify_all();
  }
}

bool OpenFiles::has_room() const {
  const auto mine = std::ssize(open_) + opening_;
  return mine == 0 || (shares_process_limit_ ? process_open().load() < max_open_ : mine < max_open_);
}

/// Closes the first unused file that the hand meets and that was not used since the hand last passed.
bool OpenFiles::close_one() {
  for (std::size_t looked = 0; looked < 2 * open_.size(); ++looked) {
    if (hand_ >= open_.size()) hand_ = 0;
    auto& entry = entries_[static_cast<std::size_t>(open_[hand_])];
    int unused = 0;
    if (!entry.recent.exchange(false) && entry.users.compare_exchange_strong(unused, kClosed)) {
      ::close(entry.descriptor);
      --process_open();
      open_[hand_] = open_.back();
      open_.pop_back();
      return true;
    }
    ++hand_;
  }
  return false;
}

/// Waits until this thread may open `entry`, or it is open.
void OpenFiles::make_room(std::unique_lock<std::mutex>& lock, Entry& entry) {
  ++waiting_;
  while (entry.users.load() == kOpening || (entry.users.load() == kClosed && !has_room() && !close_one())) {
    moved_.wait(lock);
  }
  --waiting_;
}

/// Somebody else took the descriptors: closes one of ours as soon as one is unused. False if we have none.
bool OpenFiles::give_up_one(std::unique_lock<std::mutex>& lock) {
  ++waiting_;
  bool closed = close_one();
  while (!closed && !open_.empty()) {
    moved_.wait(lock);
    closed = close_one();
  }
  --waiting_;
  return closed;
}

int OpenFiles::open_slowly(std::int64_t file) {
  auto& entry = entries_[static_cast<std::size_t>(file)];
  std::unique_lock lock(mutex_);
  while (true) {
    make_room(lock, entry);
    if (join(entry)) return entry.descriptor;
    entry.users.store(kOpening);
    ++opening_;
    ++process_open();
    lock.unlock();
    const int descriptor = ::open(paths_[static_cast<std::size_t>(file)].c_str(), O_RDONLY | O_CLOEXEC);
    const int code = errno;
    lock.lock();
    --opening_;
    if (descriptor >= 0) {
      publish(file, descriptor);
      return descriptor;
    }
    --process_open();
    entry.users.store(kClosed);
    moved_.notify_all();
    const bool too_many = code == EMFILE || code == ENFILE;
    if (!too_many || !give_up_one(lock)) {
      throw DataError(paths_[static_cast<std::size_t>(file)],
                      std::string("cannot be opened: ") + std::strerror(code));
    }
  }
}

void OpenFiles::publish(std::int64_t file, int descriptor) {
  auto& entry = entries_[static_cast<std::size_t>(file)];
  entry.descriptor = descriptor;
  struct stat status {};
  if (::fstat(descriptor, &status) == 0) {
    const Identity now{status.st_dev, status.st_ino, static_cast<std::uint64_t>(status.st_size),
                       status.st_mtim.tv_sec, status.st_mtim.tv_nsec};
    if (entry.seen && now != entry.identity) changed_(file);
    entry.identity = now;
    entry.seen = true;
  }
  open_.push_back(file);
  entry.recent.store(true);
  entry.users.store(1);
  moved_.notify_all();
}

}  // namespace sluice::dataio
