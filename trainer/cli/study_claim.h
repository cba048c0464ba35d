#pragma once

#include <filesystem>
#include <optional>

namespace sluice::cli {

/// The right to run one run of a study: a lock on RUN/submit.lock, held by this process and by everything
/// that it starts with descriptor(), so that a study that was killed leaves its runs claimed as long as they
/// go on by themselves. Where the file system knows no locks, nothing is locked.
class RunClaim {
 public:
  /// nullopt: somebody else has it.
  [[nodiscard]] static std::optional<RunClaim> take(const std::filesystem::path& run_directory);
  RunClaim(RunClaim&& other) noexcept;
  RunClaim& operator=(RunClaim&& other) noexcept;
  ~RunClaim();

  [[nodiscard]] int descriptor() const { return descriptor_; }

 private:
  explicit RunClaim(int descriptor) : descriptor_(descriptor) {}
  int descriptor_ = -1;
};

/// Whether somebody runs it, this process included.
[[nodiscard]] bool is_claimed(const std::filesystem::path& run_directory);

}  // namespace sluice::cli
