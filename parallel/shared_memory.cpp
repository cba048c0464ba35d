#include "parallel/shared_memory.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <stdexcept>
#include <string>
#include <system_error>

#include "parallel/agree.h"

namespace sluice::parallel {
namespace {

/// An open file, and its name for as long as it is to have one.
class NamedMemory {
 public:
  NamedMemory() = default;
  ~NamedMemory() {
    forget();
    if (file_ >= 0) close(file_);
  }
  NamedMemory(const NamedMemory&) = delete;
  NamedMemory& operator=(const NamedMemory&) = delete;

  void make(std::size_t bytes) {
    static std::atomic<int> made = 0;
    std::string name;
    do {  // processes of other containers may have this one's number
      name = "/sluice-" + std::to_string(getpid()) + "-" + std::to_string(made++);
      file_ = shm_open(name.c_str(), O_CREAT | O_EXCL | O_RDWR, S_IRUSR | S_IWUSR);
    } while (file_ < 0 && errno == EEXIST);
    if (file_ < 0) fail("shm_open", bytes, errno);
    name_ = name;
    // Taken now: a page that is not there when it is written to would be a signal in the middle of a run.
    if (const int error = posix_fallocate(file_, 0, static_cast<off_t>(bytes)); error != 0)
      fail("posix_fallocate", bytes, error);
  }
  void open(const std::string& name, std::size_t bytes) {
    file_ = shm_open(name.c_str(), O_RDWR, 0);
    if (file_ < 0) fail("shm_open", bytes, errno);
  }
  [[nodiscard]] std::byte* map(std::size_t bytes) const {
    void* const begin = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, file_, 0);
    if (begin == MAP_FAILED) fail("mmap", bytes, errno);
    return static_cast<std::byte*>(begin);
  }
  void forget() {
    if (!name_.empty()) shm_unlink(name_.c_str());
    name_.clear();
  }
  [[nodiscard]] const std::string& name() const { return name_; }

 private:
  [[noreturn]] static void fail(const char* call, std::size_t bytes, int error) {
    throw std::runtime_error("shared memory of the host (/dev/shm), " + std::to_string(bytes) +
                             " bytes: " + call + ": " + std::system_category().message(error));
  }

  int file_ = -1;
  std::string name_;
};

}  // namespace

SharedMemory::SharedMemory(Communicator& ranks, std::size_t bytes) : bytes_(bytes) {
  NamedMemory memory;
  on_all_ranks(ranks, [&] {
    if (ranks.rank() == 0) memory.make(bytes);
  });
  const std::string name = ranks.broadcast(memory.name(), 0);
  try {
    on_all_ranks(ranks, [&] {
      if (ranks.rank() != 0) memory.open(name, bytes);
      begin_ = memory.map(bytes);
    });
  } catch (...) {
    if (begin_ != nullptr) munmap(begin_, bytes_);
    throw;
  }
}

SharedMemory::~SharedMemory() { munmap(begin_, bytes_); }

}  // namespace sluice::parallel
