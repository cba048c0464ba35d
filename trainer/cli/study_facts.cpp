#include "trainer/cli/study_facts.h"

#include <fmt/format.h>

#include <filesystem>
#include <map>
#include <memory>

#include "dataio/describe.h"
#include "trainer/cli/bench.h"
#include "trainer/cli/inspect_model.h"
#include "trainer/cli/option_table.h"
#include "trainer/model/flops.h"
#include "trainer/optim/schedule.h"
#include "trainer/train/corpus_list.h"
#include "trainer/train/errors.h"
#include "trainer/train/masking.h"

namespace sluice::cli {
namespace {

struct CorpusFacts {
  std::int64_t vocabulary = 0;
  std::int64_t train_tokens = 0;
};

std::vector<std::string> words_of(const study::Values& values) {
  std::vector<std::string> words;
  for (const auto& [key, value] : values) words.push_back(fmt::format("--{}={}", key, value));
  return words;
}

CorpusFacts describe(const std::string& path) {
  if (path.empty()) throw train::InputError("data.corpus: not given; `sluice prepare` makes a corpus");
  if (train::parse_corpora(path).parts.size() != 1)
    throw train::InputError(fmt::format(
        "data.corpus = {}: a loss study reads one corpus, whose whole valid split it evaluates", path));
  if (!std::filesystem::exists(std::filesystem::path(path) / "corpus.json"))
    throw train::InputError(
        fmt::format("data.corpus = {}: there is no corpus; `sluice prepare` makes one", path));
  CorpusFacts facts;
  bool valid = false;
  const auto corpus = dataio::describe_corpus(path);
  facts.vocabulary = corpus.vocabulary_size;
  for (const auto& split : corpus.splits) {
    if (split.name == "train") facts.train_tokens = split.tokens;
    valid = valid || (split.name == "valid" && split.tokens > 1);
  }
  if (!valid || facts.train_tokens == 0)
    throw train::InputError(
        fmt::format("data.corpus = {}: needs a train and a valid split that hold tokens", path));
  return facts;
}

class Facts {
 public:
  explicit Facts(const study::StudySpec& spec) : spec_(spec) {}

  study::CellFacts operator()(const study::Values& values) {
    const bool loss = spec_.kind == study::StudyKind::kLoss;
    const auto options = bench_options(words_of(values));
    if (!loss && !values.contains("train.global_batch"))
      throw train::InputError(
          "train.global_batch: not given; a speed study shares it out, or gives it to each rank");
    const auto corpus = loss || !options.data.corpus.empty()
                            ? corpus_of(options.data.corpus)
                            : CorpusFacts{.vocabulary = spec_.speed.vocabulary};
    study::CellFacts facts{.counts = counts(options, corpus)};
    facts.warmup_steps = options.optim.warmup_steps;
    facts.wsd = options.optim.schedule == "wsd";
    facts.decays = options.optim.schedule != "constant" && options.optim.schedule != "noam";
    facts.decay_begin = [optim = options.optim](std::int64_t steps) {
      return optim::decay_begin(optim, steps);
    };
    return facts;
  }

 private:
  CorpusFacts corpus_of(const std::string& path) {
    auto found = corpora_.find(path);
    if (found == corpora_.end()) found = corpora_.emplace(path, describe(path)).first;
    return found->second;
  }

  static study::ModelCounts counts(const train::RunOptions& options, const CorpusFacts& corpus) {
    const auto counted = count_parameters(model_parts(options.model, corpus.vocabulary));
    const double predicted =
        static_cast<double>(train::sample_form(options).targets) / static_cast<double>(options.model.seq_len);
    const auto flops =
        model::count_flops(options.model, corpus.vocabulary, model::Recompute::kNone, predicted);
    return {.params = counted.all,
            .params_no_embedding = counted.without_embeddings,
            .params_no_spatial = counted.without_spatial,
            .flops_per_token = flops.useful_per_token,
            .tokens_per_step = options.train.global_batch * options.model.seq_len,
            .corpus_tokens = corpus.train_tokens};
  }

  study::StudySpec spec_;
  std::map<std::string, CorpusFacts> corpora_;
};

}  // namespace

study::FactsOf study_facts(const study::StudySpec& spec) {
  return [facts = std::make_shared<Facts>(spec)](const study::Values& values) { return (*facts)(values); };
}

train::RunOptions study_run_options(const study::Run& run, const std::string& directory) {
  auto values = run.values;
  for (const auto& [key, value] : run.derived) values[key] = value;
  values["run.dir"] = directory;
  if (const auto ledger = values.find("train.ledger"); ledger != values.end() && !ledger->second.empty())
    ledger->second =
        (std::filesystem::path(directory) / std::filesystem::path(ledger->second).filename()).string();
  return parse_run_options(words_of(values));
}

train::RunOptions study_bench_options(const study::Run& run) {
  auto options = bench_options(words_of(run.values));
  if (options.data.corpus.empty()) options.data.corpus = kNoCorpus;
  return options;
}

train::RunOptions study_options(const study::Run& run, const std::string& directory) {
  return run.role == study::Role::kSpeed ? study_bench_options(run) : study_run_options(run, directory);
}

study::Values all_settings(const train::RunOptions& options) {
  study::Values values;
  for (const auto& row : option_table()) values[row.key] = row.get(options);
  return values;
}

}  // namespace sluice::cli
