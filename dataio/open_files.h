#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

namespace sluice::dataio {

/// File descriptors of many files of which few are open at a time. A file is opened when it is first used,
/// and closed when another one needs its place and nobody is using it; the one that was not used for long
/// goes first (second chance). Safe for many threads; using a file that is open takes no lock.
class OpenFiles {
 public:
  /// `max_open`: 0 for three quarters of what the process may open, shared by all objects of this class.
  /// `changed(file)`: called before the first use of a file that was opened again and is not the one that it
  /// was.
  OpenFiles(std::vector<std::string> paths, std::int64_t max_open,
            std::function<void(std::int64_t file)> changed);
  ~OpenFiles();
  OpenFiles(const OpenFiles&) = delete;
  OpenFiles& operator=(const OpenFiles&) = delete;

  /// Keeps a file open while it lives. One thread holds at most one at a time.
  class Use {
   public:
    ~Use() { files_.release(file_); }
    Use(const Use&) = delete;
    Use& operator=(const Use&) = delete;
    [[nodiscard]] int descriptor() const { return descriptor_; }

   private:
    friend class OpenFiles;
    Use(OpenFiles& files, std::int64_t file) : files_(files), file_(file), descriptor_(files.acquire(file)) {}
    OpenFiles& files_;
    std::int64_t file_;
    int descriptor_;
  };

  /// Throws DataError naming the file if it cannot be opened.
  [[nodiscard]] Use use(std::int64_t file) { return {*this, file}; }
  [[nodiscard]] std::int64_t open_count() const;

 private:
  static constexpr int kClosed = -1;
  static constexpr int kOpening = -2;
  struct Identity {
    std::uint64_t device = 0, inode = 0, size = 0;
    std::int64_t seconds = 0, nanoseconds = 0;
    bool operator==(const Identity&) const = default;
  };
  struct Entry {
    std::atomic<int> users{kClosed};  ///< or kOpening
    std::atomic<bool> recent{false};
    int descriptor = -1;
    bool seen = false;
    Identity identity;
  };

  int acquire(std::int64_t file);
  void release(std::int64_t file);
  bool join(Entry& entry);
  int open_slowly(std::int64_t file);
  void make_room(std::unique_lock<std::mutex>& lock, Entry& entry);
  bool give_up_one(std::unique_lock<std::mutex>& lock);
  bool has_room() const;
  bool close_one();
  void publish(std::int64_t file, int descriptor);

  const std::vector<std::string> paths_;
  const std::function<void(std::int64_t)> changed_;
  std::unique_ptr<Entry[]> entries_;
  mutable std::mutex mutex_;
  std::condition_variable moved_;  ///< a file was opened, or is in use no more
  std::atomic<int> waiting_{0};
  std::vector<std::int64_t> open_;
  std::size_t hand_ = 0;
  std::int64_t opening_ = 0;
  std::int64_t max_open_;
  bool shares_process_limit_;
};

}  // namespace sluice::dataio
