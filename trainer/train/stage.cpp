#include "trainer/train/stage.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <exception>
#include <filesystem>
#include <memory>
#include <utility>

#include "trainer/train/corpus_copy.h"
#include "trainer/train/nodes.h"

namespace sluice::train {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::chrono::seconds kBetweenExchanges{2};

// What a rank says of its copy: a letter, and behind kFailed the host and the reason.
constexpr char kNothing = '-', kWorking = 'w', kCopied = 'c', kFound = 'f', kFailed = '!';

/// One rank's part: to copy where it is the first of its node, and to look whether the copy stands.
class NodeCopy {
 public:
  NodeCopy(const dataio::Corpus& corpus, const std::string& directory, std::int64_t local_rank)
      : first_of_node_(local_rank == 0) {
    guarded([&] { copy_ = std::make_unique<CorpusCopy>(corpus, directory); });
    if (first_of_node_ && copy_) state_ = kWorking;
  }

  /// Goes on for a while; the message for the other ranks.
  std::string advance() {
    if (state_.front() == kWorking) {
      guarded([&] {
        if (copy_->advance(kBetweenExchanges))
          state_ = copy_->outcome() == CorpusCopy::Outcome::kFound ? kFound : kCopied;
      });
    }
    return state_;
  }

  /// The directory to read from, empty where there is no copy. Lets go of what an unfinished one left.
  std::filesystem::path target() {
    const auto copy = std::move(copy_);
    return copy && copy->stands() ? copy->target() : std::filesystem::path();
  }

  [[nodiscard]] std::int64_t bytes() const { return copy_ ? copy_->bytes() : 0; }

 private:
  template <typename Work>
  void guarded(Work work) {
    try {
      work();
    } catch (const std::exception& error) {
      if (first_of_node_) state_ = kFailed + host_name() + ": " + error.what();
      copy_.reset();
    }
  }

  bool first_of_node_;
  std::unique_ptr<CorpusCopy> copy_;
  std::string state_{kNothing};
};

std::string summarise(const std::vector<std::string>& states, const std::string& directory, double megabytes,
                      double seconds) {
  const auto count = [&](char letter) {
    return std::ranges::count_if(states, [&](const std::string& state) { return state.front() == letter; });
  };
  return fmt::format("data.stage = {}: {:.1f} MB, copied on {} and found on {} of {} nodes, {:.1f} s",
                     directory, megabytes, count(kCopied), count(kFound),
                     count(kCopied) + count(kFound) + count(kFailed), seconds);
}

}  // namespace

StagedCorpus stage_corpus(dataio::Corpus corpus, const std::string& directory,
                          parallel::Communicator& world) {
  StagedCorpus staged{.corpus = std::move(corpus)};
  if (directory.empty()) return staged;
  const auto start = Clock::now();
  NodeCopy copy(staged.corpus, directory, world.place().local_rank);
  std::vector<std::string> states;
  do {
    states = world.all_gather(copy.advance());
  } while (std::ranges::any_of(states, [](const std::string& state) { return state.front() == kWorking; }));
  const double megabytes = 1e-6 * static_cast<double>(copy.bytes());
  if (const auto target = copy.target(); !target.empty()) staged.corpus = staged.corpus.moved_to(target);
  const std::chrono::duration<double> seconds = Clock::now() - start;
  staged.told.push_back(summarise(states, directory, megabytes, seconds.count()));
  for (const std::string& state : states) {
    if (state.front() == kFailed)
      staged.told.push_back(
          fmt::format("warning: data.stage = {}: {}; that node reads the corpus from where it lies",
                      directory, state.substr(1)));
  }
  return staged;
}

std::vector<OpenCorpus> stage_corpora(std::vector<OpenCorpus> corpora, const std::string& directory,
                                      parallel::Communicator& world, TrainSink* sink) {
  for (OpenCorpus& corpus : corpora) {
    StagedCorpus staged = stage_corpus(std::move(corpus.files), directory, world);
    corpus.files = std::move(staged.corpus);
    if (world.rank() != 0) continue;
    for (const std::string& line : staged.told) sink->told(line);
  }
  return corpora;
}

}  // namespace sluice::train
