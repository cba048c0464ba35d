#include "trainer/train/stage.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <fstream>

#include "parallel/thread_communicator.h"
#include "tests/unit/dataio/corpus_fixture.h"
#include "tests/unit/train/support.h"
#include "trainer/train/corpus_copy.h"
#include "trainer/train/files.h"
#include "trainer/train/nodes.h"

namespace fs = std::filesystem;

namespace sluice::train {
namespace {

using ::testing::_;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

constexpr auto kLong = std::chrono::minutes(1);

class StageTest : public ::testing::Test {
 protected:
  StageTest() { make_corpus(original()); }
  [[nodiscard]] fs::path original() const { return directory_.path() / "corpus"; }
  [[nodiscard]] fs::path disk() const { return directory_.path() / "disk" / "of" / "a-node"; }
  [[nodiscard]] dataio::Corpus corpus() const { return dataio::Corpus::open(original()); }

  [[nodiscard]] StagedCorpus stage() const {
    const auto world = parallel::make_local_communicator();
    return stage_corpus(corpus(), disk().string(), *world);
  }
  /// Names in the directory that was staged to.
  [[nodiscard]] std::vector<std::string> on_disk() const {
    std::vector<std::string> names;
    for (const auto& entry : fs::directory_iterator(disk()))
      names.push_back(entry.path().filename().string());
    return names;
  }

 private:
  TemporaryDirectory directory_;
};

std::vector<std::int32_t> tokens_of(const dataio::Corpus& corpus) {
  const dataio::SplitLayout& split = corpus.split("train");
  std::vector<std::int32_t> tokens(static_cast<std::size_t>(split.tokens));
  dataio::SplitReader(split, corpus.vocabulary_size(), {}).read(0, tokens);
  return tokens;
}

TEST_F(StageTest, WithoutADirectoryNothingHappens) {
  const auto world = parallel::make_local_communicator();
  const StagedCorpus staged = stage_corpus(corpus(), "", *world);
  EXPECT_EQ(staged.corpus.directory(), original());
  EXPECT_THAT(staged.told, IsEmpty());
}

TEST_F(StageTest, ACopyHasEveryFileAndIsReadInsteadOfTheOriginal) {
  const auto expected = tokens_of(corpus());
  const StagedCorpus staged = stage();
  EXPECT_THAT(staged.told, ElementsAre(HasSubstr("copied on 1 and found on 0 of 1 nodes")));
  ASSERT_THAT(on_disk(), ElementsAre(staged.corpus.directory().filename().string()));
  for (const auto& entry : fs::directory_iterator(original()))
    EXPECT_EQ(read_file(staged.corpus.directory() / entry.path().filename()), read_file(entry.path()));
  EXPECT_EQ(dataio::Corpus::open(staged.corpus.directory()).fingerprint(), corpus().fingerprint());
  fs::remove_all(original());
  EXPECT_EQ(tokens_of(staged.corpus), expected);
}

TEST_F(StageTest, ACompleteCopyIsUsedAgain) {
  const fs::path copy = stage().corpus.directory();
  const auto written = fs::last_write_time(copy / "corpus.json");
  const StagedCorpus again = stage();
  EXPECT_THAT(again.told, ElementsAre(HasSubstr("copied on 0 and found on 1 of 1 nodes")));
  EXPECT_EQ(again.corpus.directory(), copy);
  EXPECT_EQ(fs::last_write_time(copy / "corpus.json"), written);
}

TEST_F(StageTest, ADamagedCopyIsMadeAnew) {
  const auto expected = tokens_of(corpus());
  const StagedCorpus first = stage();
  dataio::testing::flip_bit(first.corpus.split("train").shards[0], 3);
  EXPECT_THAT(stage().told, ElementsAre(HasSubstr("copied on 1")));
  EXPECT_EQ(tokens_of(stage().corpus), expected);
  fs::resize_file(first.corpus.split("train").shards[1].file, 100);
  EXPECT_THAT(stage().told, ElementsAre(HasSubstr("copied on 1")));
  fs::remove(first.corpus.directory() / "tokenizer.json");
  EXPECT_THAT(stage().told, ElementsAre(HasSubstr("copied on 1")));
  EXPECT_EQ(tokens_of(stage().corpus), expected);
}

TEST_F(StageTest, ACorpusOfOtherContentHasACopyOfItsOwn) {
  const fs::path first = stage().corpus.directory();
  fs::remove_all(original());
  fs::create_directory(original());
  dataio::testing::write_corpus(original(), {{"train", {351, 250}}, {"valid", {77}}}, 257);
  EXPECT_NE(stage().corpus.directory(), first);
  EXPECT_THAT(on_disk(), SizeIs(2));
}

TEST_F(StageTest, AProcessKilledHalfWayLeavesNothingThatIsBelieved) {
  const pid_t child = ::fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    CorpusCopy copy(corpus(), disk());
    const auto unfinished = [&] { return fs::exists(copy.target().string() + ".tmp/train-00001.h5"); };
    while (!unfinished() && !copy.advance(std::chrono::microseconds(1))) {
    }
    ::raise(SIGKILL);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  ASSERT_TRUE(WIFSIGNALED(status));
  ASSERT_THAT(on_disk(), ElementsAre(HasSubstr(".tmp")));
  const StagedCorpus staged = stage();
  EXPECT_THAT(staged.told, ElementsAre(HasSubstr("copied on 1")));
  EXPECT_THAT(on_disk(), ElementsAre(staged.corpus.directory().filename().string()));
  EXPECT_EQ(tokens_of(staged.corpus), tokens_of(corpus()));
}

TEST_F(StageTest, ADamagedOriginalIsNotCopied) {
  const dataio::Corpus opened = corpus();
  dataio::testing::flip_bit(opened.split("train").shards[1], 5);
  const StagedCorpus staged = stage();
  EXPECT_EQ(staged.corpus.directory(), original());
  EXPECT_THAT(staged.told, ElementsAre(_, HasSubstr("train-00001.h5: is damaged")));
  EXPECT_THAT(on_disk(), IsEmpty());
}

TEST_F(StageTest, WhereItCannotBeWrittenTheOriginalIsRead) {
  fs::create_directories(disk().parent_path());
  std::ofstream(disk()) << "a file where the directory is to be";
  const StagedCorpus staged = stage();
  EXPECT_EQ(staged.corpus.directory(), original());
  EXPECT_THAT(staged.told,
              ElementsAre(HasSubstr("copied on 0 and found on 0 of 1 nodes"), HasSubstr(host_name() + ": ")));
  EXPECT_THAT(staged.told[1], HasSubstr("reads the corpus from where it lies"));
  EXPECT_EQ(tokens_of(staged.corpus), tokens_of(corpus()));
}

TEST_F(StageTest, TheOneThatCopiesIsWaitedFor) {
  fs::create_directories(disk());
  auto lock = std::make_unique<DirectoryLock>(disk());
  ASSERT_TRUE(lock->held());
  CorpusCopy copy(corpus(), disk());
  EXPECT_FALSE(copy.advance(std::chrono::milliseconds(60)));
  EXPECT_THAT(on_disk(), IsEmpty());
  lock.reset();
  EXPECT_TRUE(copy.advance(kLong));
}

TEST_F(StageTest, OneRankOfANodeCopiesAndAllRead) {
  parallel::run_thread_ranks(3, [&](parallel::Communicator& world) {
    const StagedCorpus staged = stage_corpus(corpus(), disk().string(), world);
    EXPECT_EQ(staged.corpus.directory().parent_path(), disk());
    EXPECT_THAT(staged.told, ElementsAre(HasSubstr("copied on 1 and found on 0 of 1 nodes")));
  });
}

TEST_F(StageTest, ASessionTrainsTheSameOnTheCopyAndSaysSo) {
  const RunOptions plain = small_run(original(), original().parent_path() / "plain");
  RunOptions staged = small_run(original(), original().parent_path() / "staged");
  staged.data.stage = disk().string();
  const RanksResult expected = run_on_ranks(2, plain), found = run_on_ranks(2, staged);
  EXPECT_THAT(expected.told.lines, IsEmpty());
  EXPECT_THAT(found.told.lines, ElementsAre(HasSubstr("copied on 1 and found on 0 of 1 nodes")));
  EXPECT_EQ(found.told.losses, expected.told.losses);
  EXPECT_THAT(on_disk(), SizeIs(1));
}

TEST(Room, WantsATwentiethMoreThanTheCorpusHas) {
  EXPECT_EQ(room_fault(1000, 1050), std::nullopt);
  EXPECT_THAT(room_fault(1000, 1049).value(), HasSubstr("1000 bytes, of which 1049 are free"));
}

TEST(Nodes, AreNamedWithTheirRanks) {
  EXPECT_EQ(describe_nodes({{"a", {0}}}), "1 rank on 1 node (a rank 0)");
  EXPECT_EQ(describe_nodes({{"a", {0, 1}}, {"b", {2}}}), "3 ranks on 2 nodes (a ranks 0-1, b rank 2)");
  EXPECT_EQ(describe_nodes({{"a", {0, 2, 3, 4}}, {"b", {1}}}),
            "5 ranks on 2 nodes (a ranks 0,2-4, b rank 1)");
  std::vector<NodeRanks> many;
  for (std::int64_t k = 0; k < 9; ++k) many.push_back({"n" + std::to_string(k), {2 * k, 2 * k + 1}});
  EXPECT_EQ(describe_nodes(many), "18 ranks on 9 nodes, 2 on each");
  many.back().ranks.pop_back();
  EXPECT_EQ(describe_nodes(many), "17 ranks on 9 nodes, 1 to 2 on each");
}

TEST(Nodes, RanksOfOneHostAreOneNode) {
  parallel::run_thread_ranks(3, [](parallel::Communicator& world) {
    const auto nodes = ranks_by_node(world);
    ASSERT_THAT(nodes, SizeIs(1));
    EXPECT_EQ(nodes[0].host, host_name());
    EXPECT_THAT(nodes[0].ranks, ElementsAre(0, 1, 2));
  });
}

}  // namespace
}  // namespace sluice::train
