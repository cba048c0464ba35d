#include "trainer/train/checkpoint_writer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <functional>
#include <future>
#include <stdexcept>

#include "dataio/tokenizer.h"
#include "tests/unit/dataio/scratch.h"
#include "trainer/train/errors.h"

namespace fs = std::filesystem;

namespace sluice::train {
namespace {

using testing::HasSubstr;

const parallel::ArenaLayout& written_layout() {
  static const parallel::ArenaLayout kLayout({{"weight", {50, 30}}, {"bias", {30}}}, {.world = 2});
  return kLayout;
}

CheckpointInfo written_info(std::int64_t step) {
  CheckpointInfo result;
  result.state = {.step = step, .tokens = step * 7, .next_sample = step * 4};
  return result;
}

/// Fills the host's buffers as a copy of a state would.
void fill(const StateBuffers& host, double base) {
  host.parameters.fill_(base);
  host.first_moment.fill_(base + 0.25);
  host.second_moment.fill_(base + 0.5);
}

CheckpointWriter::Copy values(double base) {
  return [base](const StateBuffers& host) {
    fill(host, base);
    return std::function<void()>();
  };
}

bool holds(const at::Tensor& flat, std::int64_t entry, double value) {
  return written_layout().view(flat, entry).eq(value).all().item<bool>();
}

/// A tokenizer whose files() waits until it may: what follows it is not written before.
class SlowTokenizer : public dataio::Tokenizer {
 public:
  [[nodiscard]] std::string kind() const override { return "bytes"; }
  [[nodiscard]] std::int64_t vocabulary_size() const override { return 257; }
  [[nodiscard]] std::int32_t end_of_document() const override { return 256; }
  void encode(std::string_view /*text*/, std::vector<std::int32_t>& /*out*/) const override {}
  [[nodiscard]] std::string decode(std::span<const std::int32_t> /*ids*/) const override { return ""; }
  [[nodiscard]] dataio::TokenizerFiles files() const override {
    may_.wait();
    return {.json = "{}"};
  }
  void let_go() { gate_.set_value(); }

 private:
  std::promise<void> gate_;
  std::shared_future<void> may_ = gate_.get_future().share();
};

class CheckpointWriterTest : public testing::Test {
 protected:
  [[nodiscard]] CheckpointWriter make(const dataio::Tokenizer& tokenizer,
                                      CheckpointOptions retention = {}) const {
    return {run(), written_layout(), at::kDouble, at::kCPU, tokenizer, retention};
  }
  [[nodiscard]] const fs::path& run() const { return directory_.path(); }
  void expect_stored(std::int64_t step, double base) const {
    const fs::path directory = run() / "checkpoints" / ("step-00000" + std::to_string(step));
    EXPECT_THAT(verify_checkpoint(directory), testing::IsEmpty());
    std::vector<std::string> warnings;
    const auto allocate = [] { return written_layout().allocate(at::kDouble, at::kCPU); };
    const StateBuffers found{
        .parameters = allocate(), .first_moment = allocate(), .second_moment = allocate()};
    load_checkpoint(*find_checkpoint(directory, warnings), written_layout(), found);
    for (std::int64_t entry = 0; entry < 2; ++entry) {
      EXPECT_TRUE(holds(found.parameters, entry, base));
      EXPECT_TRUE(holds(found.first_moment, entry, base + 0.25));
      EXPECT_TRUE(holds(found.second_moment, entry, base + 0.5));
    }
  }

 private:
  dataio::Scratch directory_;
};

TEST_F(CheckpointWriterTest, WritesBesideItsCallerAndTellsWhenItIsDone) {
  SlowTokenizer tokenizer;
  CheckpointWriter writer = make(tokenizer);
  writer.snapshot(written_info(1), values(1));
  EXPECT_THAT(writer.take_written(), testing::IsEmpty()) << "and the caller is here already";
  EXPECT_FALSE(fs::exists(run() / "checkpoints" / "latest"));
  tokenizer.let_go();
  writer.finish();
  const auto written = writer.take_written();
  ASSERT_EQ(written.size(), 1U);
  EXPECT_EQ(written[0].step, 1);
  EXPECT_EQ(written[0].directory, run() / "checkpoints" / "step-000001");
  std::int64_t bytes = 0;
  for (const auto& file : fs::directory_iterator(written[0].directory))
    bytes += static_cast<std::int64_t>(fs::file_size(file));
  EXPECT_EQ(written[0].bytes, bytes);
  EXPECT_GT(bytes, 3 * 1530 * 8);
  EXPECT_THAT(writer.take_written(), testing::IsEmpty()) << "told once";
  expect_stored(1, 1);
}

TEST_F(CheckpointWriterTest, TheNextOneWaitsAndOverwritesNothing) {
  const auto tokenizer = dataio::make_byte_tokenizer();
  CheckpointWriter writer = make(*tokenizer, {.every = 1, .keep = 5, .at = {}});
  for (std::int64_t step = 1; step <= 5; ++step)
    writer.snapshot(written_info(step), values(static_cast<double>(step)));
  writer.finish();
  const auto written = writer.take_written();
  ASSERT_EQ(written.size(), 5U);
  for (std::int64_t step = 1; step <= 5; ++step) {
    EXPECT_EQ(written[static_cast<std::size_t>(step - 1)].step, step);
    expect_stored(step, static_cast<double>(step));
  }
}

TEST_F(CheckpointWriterTest, NothingIsWrittenBeforeTheCopyIsWhole) {
  const auto tokenizer = dataio::make_byte_tokenizer();
  CheckpointWriter writer = make(*tokenizer);
  std::promise<void> gate;
  StateBuffers filled;
  writer.snapshot(written_info(2), [&](const StateBuffers& host) {
    filled = host;
    return [&, may = gate.get_future().share()] {
      may.wait();
      fill(filled, 2);
    };
  });
  EXPECT_THAT(writer.take_written(), testing::IsEmpty()) << "and the caller is here already";
  EXPECT_FALSE(fs::exists(run() / "checkpoints" / "latest"));
  gate.set_value();
  writer.finish();
  EXPECT_EQ(writer.take_written().size(), 1U);
  expect_stored(2, 2);
}

TEST_F(CheckpointWriterTest, AFaultOfTheCopyIsThrownToo) {
  const auto tokenizer = dataio::make_byte_tokenizer();
  CheckpointWriter writer = make(*tokenizer);
  writer.snapshot(written_info(1), [](const StateBuffers& /*host*/) {
    return [] { throw std::runtime_error("the device is gone"); };
  });
  EXPECT_THROW(writer.finish(), std::runtime_error);
  EXPECT_THAT(writer.take_written(), testing::IsEmpty());
}

TEST_F(CheckpointWriterTest, ItsEndWaitsForWhatItBegan) {
  const auto tokenizer = dataio::make_byte_tokenizer();
  {
    CheckpointWriter writer = make(*tokenizer);
    writer.snapshot(written_info(3), values(3));
  }
  expect_stored(3, 3);
}

TEST_F(CheckpointWriterTest, AFaultOfTheThreadIsThrownToItsCaller) {
  const auto tokenizer = dataio::make_byte_tokenizer();
  std::ofstream(run() / "checkpoints") << "a file where a directory has to be";
  CheckpointWriter writer = make(*tokenizer);
  writer.snapshot(written_info(1), values(1));
  bool copied = false;
  EXPECT_THROW(writer.snapshot(written_info(2),
                               [&](const StateBuffers& /*host*/) {
                                 copied = true;
                                 return std::function<void()>();
                               }),
               std::exception);
  EXPECT_FALSE(copied) << "before anything else is begun";
  writer.finish();
  EXPECT_THAT(writer.take_written(), testing::IsEmpty()) << "thrown once, never counted as written";

  writer.snapshot(written_info(3), values(3));
  EXPECT_THROW(writer.finish(), std::exception);
}

TEST_F(CheckpointWriterTest, MoreThanTheHostHasIsRefusedAtOnce) {
  const auto tokenizer = dataio::make_byte_tokenizer();
  const parallel::ArenaLayout huge({{"weight", {std::int64_t{1} << 44}}});
  try {
    const CheckpointWriter writer(run(), huge, at::kFloat, at::kCPU, *tokenizer, {});
    FAIL() << "made";
  } catch (const InputError& error) {
    EXPECT_THAT(error.what(), HasSubstr("211106.2 GB of host memory"));
    EXPECT_THAT(error.what(), HasSubstr("GB left"));
  }
}

}  // namespace
}  // namespace sluice::train
