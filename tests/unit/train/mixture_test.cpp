#include <ATen/ops/equal.h>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "dataio/tokenizer.h"
#include "parallel/thread_communicator.h"
#include "tests/support/small_model.h"
#include "tests/unit/dataio/corpus_fixture.h"
#include "tests/unit/train/support.h"
#include "trainer/train/corpora.h"
#include "trainer/train/data_plan.h"
#include "trainer/train/errors.h"
#include "trainer/train/evaluate.h"
#include "trainer/train/files.h"

namespace fs = std::filesystem;

namespace sluice::train {
namespace {

using sluice::testing::relative_error;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using Json = nlohmann::json;

std::vector<Json> valid_lines(const fs::path& run) {
  std::vector<Json> lines = lines_of(run / "metrics.jsonl");
  std::erase_if(lines, [](const Json& line) { return line["kind"] != "valid"; });
  return lines;
}

/// What a run that cannot be says.
std::string fault_of(const RunOptions& options) {
  try {
    (void)run_on_ranks(2, options);
  } catch (const InputError& error) {
    return error.what();
  }
  return "no fault";
}

/// Two corpora of the byte tokenizer: "large" of 600 tokens and "small" of 210.
class MixtureTest : public ::testing::Test {
 protected:
  explicit MixtureTest(dataio::MaskToken mask = dataio::MaskToken::kNone) {
    const auto tokenizer = dataio::make_byte_tokenizer(mask);
    write("large", {{"train", {350, 250}}, {"valid", {77}}}, *tokenizer, "0123456789abcdef");
    write("small", {{"train", {210}}, {"valid", {40}}}, *tokenizer, "00000000000000aa");
  }
  void write(const std::string& name, const std::vector<dataio::testing::SplitSpec>& splits,
             const dataio::Tokenizer& tokenizer, const std::string& fingerprint) const {
    fs::create_directories(path(name));
    dataio::testing::write_corpus(path(name), splits, tokenizer.vocabulary_size());
    Json json = dataio::testing::read_json(path(name) / "corpus.json");
    json["fingerprint"] = fingerprint;
    json["tokenizer"]["kind"] = tokenizer.kind();
    json["tokenizer"]["end_of_document"] = tokenizer.end_of_document();
    dataio::testing::write_json(path(name) / "corpus.json", json);
    tokenizer.save(path(name));
  }
  [[nodiscard]] fs::path path(const std::string& name) const { return directory_.path() / name; }
  /// "large:0.7,small:0.3" with the paths in place of the names.
  [[nodiscard]] std::string mixture(double large, double small) const {
    return fmt::format("{}:{},{}:{}", path("large").string(), large, path("small").string(), small);
  }
  [[nodiscard]] RunOptions options(const std::string& name) const {
    RunOptions run = small_run(path("large"), path(name));
    run.data.corpus = mixture(0.7, 0.3);
    run.train.ledger_detail = "full";
    run.train.precision = "fp64";
    return run;
  }

 private:
  TemporaryDirectory directory_;
};

class MaskedMixtureTest : public MixtureTest {
 protected:
  MaskedMixtureTest() : MixtureTest(dataio::MaskToken::kAdd) {}
};

TEST_F(MixtureTest, OfOneCorpusIsThatCorpus) {
  RunOptions plain = options("plain");
  plain.data.corpus = path("large").string();
  RunOptions weighted = options("weighted");
  weighted.data.corpus = path("large").string() + ":0.25";
  const RanksResult want = run_on_ranks(2, plain);
  const RanksResult found = run_on_ranks(2, weighted);
  EXPECT_TRUE(at::equal(found.parameters, want.parameters));
  EXPECT_TRUE(at::equal(found.second_moment, want.second_moment));
  EXPECT_EQ(found.told.losses, want.told.losses);
  EXPECT_EQ(read_file(weighted.train.ledger), read_file(plain.train.ledger));
  EXPECT_EQ(valid_lines(weighted.run.dir), valid_lines(plain.run.dir));
  const Json manifest = Json::parse(read_file(weighted.run.dir + "/checkpoints/latest/manifest.json"));
  EXPECT_EQ(manifest["corpus_fingerprint"], "0123456789abcdef");
  EXPECT_FALSE(manifest.contains("corpora"));
}

TEST_F(MixtureTest, ASamplesCorpusAndPlaceAreThoseOfTheMixedOrder) {
  const RunOptions run = options("run");
  run_on_ranks(1, run);
  const auto corpora = open_corpora(run);
  const dataio::MixedOrder order = mixed_order(run, corpora);
  std::vector<std::int64_t> seen(2, 0);
  std::int64_t index = 0;
  for (const Json& line : lines_of(run.train.ledger)) {
    std::vector<std::int64_t> counts(2, 0);
    for (std::size_t i = 0; i < line.at("corpus").size(); ++i, ++index) {
      const auto part = line["corpus"][i].get<std::size_t>();
      const dataio::MixedSample sample = order.sample(index);
      EXPECT_EQ(static_cast<std::int64_t>(part), sample.part);
      EXPECT_EQ(line["begin"][i], sample.window.begin);
      const dataio::Order own = sample_order(run, corpora[part].files.split("train"));
      EXPECT_EQ(sample.window.begin, own.window(seen[part]++).begin) << "each corpus in its own order";
      ++counts[part];
    }
    EXPECT_EQ(line["corpus_counts"], counts);
    EXPECT_LE(std::abs(static_cast<double>(seen[0]) - 0.7 * static_cast<double>(index)), 1);
  }
  EXPECT_EQ(index, 160);
  EXPECT_EQ(seen, (std::vector<std::int64_t>{111, 49}))
      << "0.7 is a little less in 2^-32; 49 samples are two epochs";
}

TEST_F(MixtureTest, TheLedgerCountsCorporaWithoutDetailToo) {
  RunOptions run = options("run");
  run.train.ledger_detail = "range";
  run_on_ranks(1, run);
  const auto lines = lines_of(run.train.ledger);
  ASSERT_EQ(lines.size(), 20U);
  std::int64_t large = 0;
  for (const Json& line : lines) {
    EXPECT_FALSE(line.contains("begin") || line.contains("corpus"));
    large += line.at("corpus_counts").at(0).get<std::int64_t>();
    EXPECT_EQ(line["corpus_counts"][0].get<std::int64_t>() + line["corpus_counts"][1].get<std::int64_t>(), 8);
  }
  EXPECT_EQ(large, 111);
}

TEST_F(MixtureTest, RanksAndMicroBatchesReadTheSameSamplesAndTrainTheSameModel) {
  const RunOptions alone = options("alone");
  const RanksResult one = run_on_ranks(1, alone);
  EXPECT_LT(one.told.losses.back(), one.told.losses.front());
  for (const std::int64_t ranks : {2, 3}) {
    for (const std::int64_t micro_batch : {1, 3}) {
      RunOptions run = options(fmt::format("ranks{}x{}", ranks, micro_batch));
      run.train.micro_batch = micro_batch;
      const RanksResult other = run_on_ranks(ranks, run);
      EXPECT_TRUE(other.replicas_equal);
      EXPECT_LE(relative_error(other.parameters, one.parameters), 1e-10) << ranks;
      EXPECT_EQ(read_file(run.train.ledger), read_file(alone.train.ledger));
      ASSERT_EQ(other.told.valid.back().corpora.size(), 2U);
      for (const std::size_t i : {0U, 1U}) {
        EXPECT_NEAR(other.told.valid.back().corpora[i].result.loss,
                    one.told.valid.back().corpora[i].result.loss, 1e-9);
      }
    }
  }
}

TEST_F(MaskedMixtureTest, MasksAreThoseOfTheSampleOnAnyRanksAndThroughAResume) {
  const auto masked = [&](const std::string& name) {
    RunOptions run = options(name);
    run.model.causal = false;
    run.train.objective = "mlm";
    run.train.mask_rate = 0.3;
    return run;
  };
  const RanksResult one = run_on_ranks(1, masked("one"));
  for (const std::int64_t ranks : {2, 3}) {
    const RunOptions run = masked("ranks" + std::to_string(ranks));
    EXPECT_EQ(run_on_ranks(ranks, run, {.stop_in_step = 7, .verdict = {}}).outcome,
              TrainOutcome::kStoppedEarly);
    EXPECT_LE(relative_error(run_on_ranks(ranks, run).parameters, one.parameters), 1e-10) << ranks;
  }
  const RunOptions run = masked("resumed");
  run_on_ranks(1, run, {.stop_in_step = 13, .verdict = {}});
  EXPECT_TRUE(at::equal(run_on_ranks(1, run).parameters, one.parameters));
}

TEST_F(MixtureTest, StoppedAndResumedIsBitExactAndOtherRanksGoOnWithTheSameSamples) {
  for (const std::int64_t ranks : {1, 2, 3}) {
    const RunOptions straight = options(fmt::format("straight{}", ranks));
    const RanksResult want = run_on_ranks(ranks, straight);
    RunOptions run = options(fmt::format("stopped{}", ranks));
    run_on_ranks(ranks, run, {.stop_in_step = 7, .verdict = {}});
    run.data.corpus = mixture(7, 3);  // the same shares
    const RanksResult resumed = run_on_ranks(ranks, run);
    EXPECT_EQ(resumed.told.starts.at(0).first_step, 7);
    EXPECT_THAT(resumed.told.warnings, IsEmpty());
    EXPECT_TRUE(at::equal(resumed.parameters, want.parameters)) << ranks;
    EXPECT_EQ(read_file(run.train.ledger), read_file(straight.train.ledger));
    EXPECT_EQ(valid_lines(run.run.dir), valid_lines(straight.run.dir));
  }
  const RunOptions moved = options("moved");
  run_on_ranks(2, moved, {.stop_in_step = 6, .verdict = {}});
  run_on_ranks(1, moved, {.stop_in_step = 13, .verdict = {}});
  run_on_ranks(3, moved);
  EXPECT_EQ(read_file(moved.train.ledger), read_file(options("straight1").train.ledger));
}

TEST_F(MixtureTest, OtherCorporaAndOtherWeightsAreRefusedOnResume) {
  const RunOptions first = options("run");
  run_on_ranks(1, first, {.stop_in_step = 3, .verdict = {}});
  const auto resumed_with = [&](const std::string& corpus) {
    RunOptions run = first;
    run.data.corpus = corpus;
    return fault_of(run);
  };
  const std::string large = path("large").string();
  const std::string small = path("small").string();
  EXPECT_THAT(resumed_with(mixture(0.6, 0.4)),
              HasSubstr("now 0123456789abcdef with weight 0.6, 00000000000000aa with weight 0.4; it was "
                        "0123456789abcdef with weight 0.7, 00000000000000aa with weight 0.3"));
  EXPECT_THAT(resumed_with(small + ":0.3," + large + ":0.7"), HasSubstr("is another mixture"));
  EXPECT_THAT(resumed_with(large), HasSubstr("is another mixture"));
  EXPECT_THAT(resumed_with(small), HasSubstr("is another mixture"));

  RunOptions plain = options("plain");
  plain.data.corpus = large;
  run_on_ranks(1, plain, {.stop_in_step = 3, .verdict = {}});
  plain.data.corpus = mixture(0.7, 0.3);
  EXPECT_THAT(fault_of(plain), HasSubstr("is another mixture"));
  plain.data.corpus = small;
  EXPECT_THAT(fault_of(plain), HasSubstr("holds other data (fingerprint 00000000000000aa)"));

  Json json = dataio::testing::read_json(path("small") / "corpus.json");
  json["fingerprint"] = "00000000000000bb";
  dataio::testing::write_json(path("small") / "corpus.json", json);
  EXPECT_THAT(fault_of(first), HasSubstr("00000000000000bb with weight 0.3; it was"));
}

TEST_F(MixtureTest, EachValidSplitIsEvaluatedByItselfAndTheMeanIsWeighted) {
  const RunOptions run = options("run");
  run_on_ranks(2, run);
  const auto lines = valid_lines(run.run.dir);
  ASSERT_EQ(lines.size(), 2U);
  const Json& line = lines.back();
  ASSERT_EQ(line.at("corpora").size(), 2U);
  std::vector<std::string> warnings;
  const auto checkpoint = find_checkpoint(run.run.dir, warnings);
  const auto replica = load_replica(*checkpoint, at::kDouble);
  const auto world = parallel::make_local_communicator();
  double mean = 0;
  std::int64_t tokens = 0;
  for (const std::size_t i : {0U, 1U}) {
    const Json& one = line["corpora"][i];
    const std::string corpus = path(i == 0 ? "large" : "small").string();
    EXPECT_EQ(one.at("corpus"), corpus);
    EXPECT_DOUBLE_EQ(one.at("share"), i == 0 ? 0.7 : 0.3);
    const dataio::Corpus files = dataio::Corpus::open(corpus);
    dataio::SplitReader reader(files.split("valid"), files.vocabulary_size(), dataio::ReaderOptions{});
    const EvaluationResult alone =
        evaluate(replica->model(), reader, {.seq_len = 8, .micro_batch = run.train.micro_batch}, *world);
    EXPECT_NEAR(one.at("loss"), alone.loss, 1e-12);
    EXPECT_EQ(one.at("eval_tokens"), i == 0 ? 76 : 39);
    mean += one["share"].get<double>() * one["loss"].get<double>();
    tokens += one["eval_tokens"].get<std::int64_t>();
  }
  EXPECT_NE(line["corpora"][0]["loss"], line["corpora"][1]["loss"]);
  EXPECT_DOUBLE_EQ(line["loss"], mean);
  EXPECT_EQ(line["eval_tokens"], tokens);
}

TEST_F(MixtureTest, TheStartTellsOfEachCorpus) {
  const RanksResult result = run_on_ranks(1, options("run"));
  const auto& corpora = result.told.starts.at(0).corpora;
  ASSERT_EQ(corpora.size(), 2U);
  EXPECT_EQ(corpora[1].corpus, path("small").string());
  EXPECT_DOUBLE_EQ(corpora[1].share, 0.3);
  EXPECT_EQ(corpora[1].tokens, 210);
  EXPECT_EQ(corpora[1].samples_per_epoch, 26);
  EXPECT_EQ(corpora[1].dropped_tokens, 1);
}

TEST_F(MixtureTest, AllThatIsWrongWithItsCorporaIsToldAtOnceByName) {
  const auto bytes = dataio::make_byte_tokenizer();
  write("short", {{"train", {8}}, {"valid", {40}}}, *bytes, "0000000000000001");
  write("unchecked", {{"train", {100}}, {"valid", {1}}}, *bytes, "0000000000000002");
  write("without_valid", {{"train", {100}}}, *bytes, "0000000000000003");
  write("external", {{"train", {100}}, {"valid", {40}}}, *dataio::make_external_tokenizer("mine", 257, 256),
        "0000000000000004");
  write("endless", {{"train", {100}}, {"valid", {40}}}, *dataio::make_external_tokenizer("mine", 257, -1),
        "0000000000000005");
  write("narrow", {{"train", {100}}, {"valid", {40}}}, *dataio::make_external_tokenizer("mine", 99, 98),
        "0000000000000006");
  RunOptions run = options("run");
  for (const char* name : {"short", "unchecked", "without_valid", "external", "endless", "narrow", "nowhere"})
    run.data.corpus += fmt::format(",{}:1", path(name).string());
  const std::string said = fault_of(run);
  const std::string large =
      path("large").string() + " has the tokenizer bytes with 257 ids, end of document 256";
  for (const std::string& text :
       {"the train split of " + path("short").string() + " has 8 tokens, fewer than one window",
        "the valid split of " + path("unchecked").string() + " has 1 tokens, evaluation needs 2",
        path("without_valid").string() + "/corpus.json: ",
        large + ", " + path("external").string() + " has external with 257 ids, end of document 256",
        large + ", " + path("endless").string() + " has external with 257 ids, no end of document",
        large + ", " + path("narrow").string() + " has external with 99 ids, end of document 98",
        path("nowhere").string()}) {
    EXPECT_THAT(said, HasSubstr(text));
  }
  EXPECT_FALSE(fs::exists(run.run.dir));
}

TEST_F(MixtureTest, TokenizersOfEqualSizesAndOtherContentAreTwo) {
  write("a", {{"train", {100}}, {"valid", {40}}}, *dataio::make_external_tokenizer("a", 99, 98),
        "0000000000000001");
  write("b", {{"train", {100}}, {"valid", {40}}}, *dataio::make_external_tokenizer("b", 99, 98),
        "0000000000000002");
  RunOptions run = options("run");
  run.data.corpus = fmt::format("{}:1,{}:1", path("a").string(), path("b").string());
  EXPECT_THAT(fault_of(run), HasSubstr(", of other content: a model reads the ids of one tokenizer alone"));
}

TEST_F(MaskedMixtureTest, EveryCorpusNeedsAMaskToken) {
  write("plain", {{"train", {100}}, {"valid", {40}}}, *dataio::make_byte_tokenizer(), "0000000000000001");
  RunOptions run = options("run");
  run.model.causal = false;
  run.train.objective = "mlm";
  run.data.corpus += fmt::format(",{}:1", path("plain").string());
  const std::string said = fault_of(run);
  EXPECT_THAT(said, HasSubstr("the tokenizer of " + path("plain").string() + " (bytes) has no mask token"));
  EXPECT_THAT(said, Not(HasSubstr("the tokenizer of " + path("large").string())));
}

std::vector<std::string> faults_in(const std::string& text) { return parse_corpora(text).faults; }

TEST(CorpusList, APathAloneIsTakenAsItStands) {
  for (const std::string text : {"corpora/web", "a b", "x=1;y", ""}) {
    const CorpusList list = parse_corpora(text);
    ASSERT_EQ(list.parts.size(), 1U);
    EXPECT_EQ(list.parts[0].path, text);
    EXPECT_EQ(list.parts[0].weight, 1);
    EXPECT_THAT(list.faults, IsEmpty());
  }
}

TEST(CorpusList, PathsWithWeightsInAnyUnit) {
  const CorpusList list = parse_corpora("corpora/web:70, corpora/code:2.5e1,my books:5");
  EXPECT_THAT(list.faults, IsEmpty());
  ASSERT_EQ(list.parts.size(), 3U);
  EXPECT_EQ(list.parts[1].path, "corpora/code");
  EXPECT_EQ(list.parts[1].weight, 25);
  EXPECT_EQ(list.parts[2].path, "my books");
}

TEST(CorpusList, WhatIsNoMixtureIsRefusedPieceByPiece) {
  EXPECT_THAT(faults_in("a:0,b:-1,c:inf,d:nan,e:x,f,:1,"),
              ElementsAre(HasSubstr("'a:0' has the weight 0, allowed are finite numbers > 0"),
                          HasSubstr("'b:-1' has the weight -1"), HasSubstr("'c:inf' has the weight inf"),
                          HasSubstr("'d:nan'"), HasSubstr("'e:x'"), HasSubstr("'f' is not PATH:WEIGHT"),
                          HasSubstr("':1' is not PATH:WEIGHT"), HasSubstr("'' is not PATH:WEIGHT")));
  EXPECT_THAT(faults_in("corpora/2026-11-28T10:30/web"),
              ElementsAre(HasSubstr("a path that itself contains ':' or ',' needs a symbolic link")));
  EXPECT_THAT(faults_in("a:1,b:1,./a:1"), ElementsAre(HasSubstr("./a is given twice")));
  EXPECT_THAT(faults_in("a:1,b:1e-7"), ElementsAre(HasSubstr("the weight 1e-07 of b is")));
  EXPECT_THAT(faults_in("a:1e308,b:1e308"), ElementsAre(HasSubstr("the sum of the weights is not finite")));
}

}  // namespace
}  // namespace sluice::train
