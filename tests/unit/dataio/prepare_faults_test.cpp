#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <functional>
#include <random>
#include <thread>

#include "dataio/corpus.h"
#include "dataio/error.h"
#include "dataio/prepare.h"
#include "dataio/staging.h"
#include "dataio/verify.h"
#include "tests/unit/dataio/scratch.h"
#include "tests/unit/dataio/text_fixture.h"

namespace sluice::dataio {
namespace {

using testing::HasSubstr;
using testing::IsEmpty;

enum ChildExit { kPrepared = 0, kRefused = 3, kOther = 4 };

PrepareOptions options_in(const Scratch& scratch, std::size_t bytes) {
  PrepareOptions options;
  options.inputs = {write_text(scratch.path() / "t.txt", synthetic_text(bytes, 1))};
  options.out = scratch.path() / "corpus";
  options.documents = DocumentKind::kBlankLine;
  options.shard_tokens = 400000;
  options.jobs = 2;
  return options;
}

/// Runs `body` in a child process, which is alone with what it does to itself.
pid_t in_child(const std::function<int()>& body) {
  const pid_t child = ::fork();
  if (child != 0) return child;
  int code = kOther;
  try {
    code = body();
  } catch (const DataError& e) {
    std::fprintf(stderr, "%s\n", e.what());
    code = kRefused;
  } catch (...) {
  }
  ::_exit(code);
}

int exit_code(pid_t child) {
  int status = 0;
  ::waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

TEST(PrepareKilled, LeavesAWholeCorpusOrNone) {
  const Scratch scratch;
  const PrepareOptions options = options_in(scratch, 6000000);
  const auto begin = std::chrono::steady_clock::now();
  (void)prepare(options, {});
  const auto took =
      std::chrono::duration_cast<std::chrono::microseconds>(std::chrono::steady_clock::now() - begin);
  const std::string fingerprint = Corpus::open(options.out).fingerprint();
  std::filesystem::remove_all(options.out);
  const auto seed = std::random_device()();
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937_64 random(seed);
  int killed = 0;
  for (int i = 0; i < 30; ++i) {
    const pid_t child = in_child([&] {
      (void)prepare(options, {});
      return kPrepared;
    });
    const auto moment = std::uniform_int_distribution<std::int64_t>(0, took.count() * 11 / 10)(random);
    std::this_thread::sleep_for(std::chrono::microseconds(moment));
    ::kill(child, SIGKILL);
    killed += exit_code(child) == -SIGKILL ? 1 : 0;
    if (!std::filesystem::exists(options.out)) continue;
    EXPECT_THAT(verify_corpus(options.out), IsEmpty()) << "killed after " << moment << " us";
    std::filesystem::remove_all(options.out);
  }
  EXPECT_GE(killed, 5);
  EXPECT_NO_THROW((void)prepare(options, {})) << "what killed runs left is no hindrance";
  EXPECT_EQ(Corpus::open(options.out).fingerprint(), fingerprint);
  EXPECT_FALSE(std::filesystem::exists(scratch.path() / ".corpus.preparing"));
}

TEST(PrepareKilled, TheUnfinishedDirectoryDoesNotOpen) {
  const Scratch scratch;
  const PrepareOptions options = options_in(scratch, 3000000);
  for (const std::string phase : {"tokens", "shards"}) {
    const pid_t child = in_child([&] {
      (void)prepare(options, [&](const PrepareProgress& p) {
        if (p.phase == phase && p.done_bytes > 0) ::raise(SIGKILL);
      });
      return kPrepared;
    });
    EXPECT_EQ(exit_code(child), -SIGKILL);
    EXPECT_FALSE(std::filesystem::exists(options.out));
    EXPECT_TRUE(std::filesystem::exists(scratch.path() / ".corpus.preparing"));
    EXPECT_THROW((void)Corpus::open(scratch.path() / ".corpus.preparing"), DataError);
  }
}

/// Writing stops after so many bytes of any file, as on a disk that is full.
int prepare_within(const PrepareOptions& options, rlim_t file_bytes) {
  return exit_code(in_child([&]() -> int {
    ::signal(SIGXFSZ, SIG_IGN);
    const rlimit limit{file_bytes, file_bytes};
    ::setrlimit(RLIMIT_FSIZE, &limit);
    (void)prepare(options, {});
    return kPrepared;
  }));
}

TEST(PrepareDiskFull, IsAnErrorAndLeavesNothing) {
  const Scratch scratch;
  PrepareOptions options = options_in(scratch, 2000000);  // 4 MB of tokens, shards of 800 kB
  for (const rlim_t bytes : {100, 5000, 100000, 500000, 790000, 801000, 1000000, 3000000}) {
    EXPECT_EQ(prepare_within(options, bytes), kRefused) << "files up to " << bytes << " bytes";
    EXPECT_FALSE(std::filesystem::exists(options.out));
    EXPECT_FALSE(std::filesystem::exists(scratch.path() / ".corpus.preparing"));
  }
  options.inputs = {write_text(scratch.path() / "short.txt", "A short text.\n\nAnd another one.\n")};
  for (const rlim_t bytes : {10, 100, 1000, 2000, 3000}) {
    EXPECT_EQ(prepare_within(options, bytes), kRefused) << "files up to " << bytes << " bytes";
    EXPECT_FALSE(std::filesystem::exists(options.out));
  }
}

TEST(PrepareConcurrently, OnlyOneWritesToAName) {
  const Scratch scratch;
  const PrepareOptions options = options_in(scratch, 100000);
  const StagingDirectory other(options.out);
  try {
    (void)prepare(options, {});
    FAIL() << "two at once";
  } catch (const DataError& e) {
    EXPECT_THAT(e.what(), HasSubstr("another process is preparing this corpus"));
  }
}

TEST(PrepareConcurrently, ANameTakenMeanwhileIsNotOverwritten) {
  const Scratch scratch;
  const PrepareOptions options = options_in(scratch, 100000);
  const auto take_name = [&](const PrepareProgress& p) {
    if (p.phase == "shards") write_text(options.out / "mine.txt", "precious");
  };
  EXPECT_THROW((void)prepare(options, take_name), DataError);
  EXPECT_EQ(read_text(options.out / "mine.txt"), "precious");
  EXPECT_FALSE(std::filesystem::exists(scratch.path() / ".corpus.preparing"));
}

TEST(PrepareMemory, StaysFarBelowTheInput) {
  const Scratch scratch;
  constexpr std::int64_t kInputBytes = 300000000;
  const std::string piece = synthetic_text(3000000, 1);
  {
    std::ofstream file(scratch.path() / "t.txt", std::ios::binary);
    for (std::int64_t done = 0; done < kInputBytes; done += std::ssize(piece)) file << piece;
  }
  PrepareOptions options;
  options.inputs = {scratch.path() / "t.txt"};
  options.out = scratch.path() / "corpus";
  options.jobs = 4;
  const pid_t child = in_child([&] {
    (void)prepare(options, {});
    return kPrepared;
  });
  int status = 0;
  rusage usage{};
  ::wait4(child, &status, 0, &usage);
  ASSERT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == kPrepared);
  EXPECT_LT(usage.ru_maxrss, 100 * 1024) << "KiB, for an input of 300 MB";
}

}  // namespace
}  // namespace sluice::dataio
