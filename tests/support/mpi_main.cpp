// main() of the programs of add_mpi_test: every rank runs every test, rank 0 prints. Failures of the other
// ranks are printed on rank 0 with their rank, and all ranks exit alike. A rank that waits for one that
// failed is ended by the watchdog.
#include <gtest/gtest.h>

#include <cstdio>
#include <memory>
#include <mutex>
#include <sstream>
#include <string>

#include "parallel/mpi_environment.h"
#include "parallel/watchdog.h"
#include "tests/support/mpi_world.h"

namespace sluice::tests {
namespace {

parallel::MpiEnvironment* environment = nullptr;
parallel::Communicator* world = nullptr;

std::string rank_label() {
  return "[rank " + std::to_string(world->rank()) + "/" + std::to_string(world->size()) + "] ";
}

/// Collects this rank's failures, and hands them to rank 0 after each test.
class FailureGatherer : public testing::EmptyTestEventListener {
 public:
  void OnTestStart(const testing::TestInfo& test) override {
    test_ = std::string(test.test_suite_name()) + "." + test.name();
  }

  void OnTestPartResult(const testing::TestPartResult& result) override {
    if (!result.failed()) return;
    const std::lock_guard lock(mutex_);
    std::ostringstream text;
    text << rank_label() << (result.file_name() ? result.file_name() : "unknown file") << ":"
         << result.line_number() << ": failure in " << test_ << "\n"
         << result.message() << "\n";
    failures_ += text.str();
  }

  void OnTestEnd(const testing::TestInfo&) override {
    const std::string own = take_failures();
    const auto all = world->all_gather(world->rank() == 0 ? std::string() : own);
    for (const std::string& text : all) {
      failed_anywhere_ = failed_anywhere_ || !text.empty();
      if (world->rank() == 0) std::fputs(text.c_str(), stdout);
    }
    std::fflush(stdout);
  }

  std::string take_failures() {
    const std::lock_guard lock(mutex_);
    return std::exchange(failures_, {});
  }

  [[nodiscard]] bool failed_anywhere() const { return failed_anywhere_; }
  [[nodiscard]] const std::string& test() const { return test_; }

 private:
  std::mutex mutex_;
  std::string test_;
  std::string failures_;
  bool failed_anywhere_ = false;
};

int run_tests() {
  auto& listeners = testing::UnitTest::GetInstance()->listeners();
  auto* gatherer = new FailureGatherer;  // owned by the listeners
  if (world->rank() != 0) delete listeners.Release(listeners.default_result_printer());
  listeners.Append(gatherer);
  const parallel::Watchdog watchdog(
      *world, {.limit = std::chrono::seconds(60)}, [gatherer](const parallel::HangReport& report) {
        std::fprintf(stderr, "%sin %s: %s\n%s", rank_label().c_str(), gatherer->test().c_str(),
                     report.text().c_str(), gatherer->take_failures().c_str());
      });
  const int own = RUN_ALL_TESTS() != 0 || gatherer->failed_anywhere() ? 1 : 0;
  const auto codes = world->all_gather(std::to_string(own));
  for (const std::string& code : codes)
    if (code != "0") return 1;
  return 0;
}

}  // namespace

parallel::Communicator& mpi_world() { return *world; }
parallel::MpiEnvironment& mpi_environment() { return *environment; }

}  // namespace sluice::tests

int main(int argc, char** argv) {
  sluice::parallel::MpiEnvironment mpi(&argc, &argv);
  testing::InitGoogleTest(&argc, argv);
  const auto communicator = mpi.world();
  sluice::tests::environment = &mpi;
  sluice::tests::world = communicator.get();
  return sluice::tests::run_tests();
}
