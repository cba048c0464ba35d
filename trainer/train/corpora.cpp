#include "trainer/train/corpora.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <utility>

#include "dataio/error.h"
#include "dataio/tokenizer_file.h"
#include "trainer/train/data_plan.h"
#include "trainer/train/errors.h"
#include "trainer/train/files.h"
#include "trainer/train/masking.h"
#include "trainer/train/tokenizer_match.h"

namespace sluice::train {

namespace {

std::string name_of(const dataio::Corpus& corpus) { return corpus.directory().string(); }

/// What a corpus must have by itself.
void check_corpus(const RunOptions& options, const dataio::Corpus& corpus, std::vector<std::string>& faults) {
  const auto tokenizer = dataio::load_tokenizer(corpus.directory());
  if (objective_of(options.train) == Objective::kMasked && !tokenizer->mask_token()) {
    faults.push_back(fmt::format(
        "train.objective = mlm: the tokenizer of {} ({}) has no mask token to hide tokens behind; {}",
        name_of(corpus), tokenizer->kind(),
        tokenizer->kind() == dataio::kExternalKind ? "corpora of token ids train under causal alone"
                                                   : "prepare the corpus with sluice prepare --mask-token"));
  }
  const auto fault = window_fault(window_plan(options, corpus.split("train")),
                                  fmt::format("the train split of {}", name_of(corpus)));
  if (fault) faults.push_back("data.corpus: " + *fault);
  if (options.eval.every > 0 && corpus.split("valid").tokens < 2) {
    faults.push_back(fmt::format(
        "data.corpus: the valid split of {} has {} tokens, evaluation needs 2; set eval.every=0 for none",
        name_of(corpus), corpus.split("valid").tokens));
  }
}

std::vector<CorpusPart> listed_parts(const RunOptions& options) {
  CorpusList list = parse_corpora(options.data.corpus);
  if (!list.faults.empty()) throw InputError(std::move(list.faults));
  return std::move(list.parts);
}

std::vector<double> weights_of(const std::vector<OpenCorpus>& corpora) {
  std::vector<double> weights;
  for (const OpenCorpus& corpus : corpora) weights.push_back(corpus.part.weight);
  return weights;
}

std::vector<CorpusRecord> records_of(const std::vector<OpenCorpus>& corpora) {
  std::vector<CorpusRecord> records;
  for (const OpenCorpus& corpus : corpora)
    records.push_back({corpus.files.fingerprint(), corpus.part.weight});
  return records;
}

std::vector<CorpusRecord> records_of(const CheckpointInfo& info) {
  if (!info.corpora.empty()) return info.corpora;
  return {{info.corpus_fingerprint, 1}};
}

bool reads_alike(const std::vector<CorpusRecord>& a, const std::vector<CorpusRecord>& b) {
  const auto shares = [](const std::vector<CorpusRecord>& records) {
    std::vector<double> weights;
    for (const CorpusRecord& record : records) weights.push_back(record.weight);
    return dataio::mixture_shares(weights);
  };
  return std::ranges::equal(a, b, {}, &CorpusRecord::fingerprint, &CorpusRecord::fingerprint) &&
         shares(a) == shares(b);
}

std::string text_of(const std::vector<CorpusRecord>& records) {
  std::vector<std::string> texts;
  for (const CorpusRecord& record : records)
    texts.push_back(fmt::format("{} with weight {}", record.fingerprint, record.weight));
  return fmt::format("{}", fmt::join(texts, ", "));
}

}  // namespace

std::vector<OpenCorpus> open_corpora(const RunOptions& options) {
  const std::vector<CorpusPart> parts = listed_parts(options);
  std::vector<OpenCorpus> corpora;
  std::vector<std::string> faults;
  for (const CorpusPart& part : parts) {
    try {
      dataio::Corpus files = dataio::Corpus::open(part.path);
      check_corpus(options, files, faults);
      corpora.push_back({part, std::move(files)});
    } catch (const dataio::DataError& error) {
      if (parts.size() == 1) throw;
      faults.emplace_back(error.what());
    }
  }
  for (std::size_t i = 1; i < corpora.size(); ++i) {
    const auto difference =
        tokenizer_difference(tokenizer_of(corpora.front().files), tokenizer_of(corpora[i].files));
    if (difference)
      faults.push_back("data.corpus: " + *difference + ": a model reads the ids of one tokenizer alone");
  }
  if (!faults.empty()) throw InputError(std::move(faults));
  return corpora;
}

std::vector<OpenCorpus> share_corpora(const std::vector<OpenCorpus>& corpora, const RunOptions& options,
                                      parallel::Communicator& world) {
  const std::vector<CorpusPart> parts = listed_parts(options);
  std::vector<OpenCorpus> shared;
  for (std::size_t i = 0; i < parts.size(); ++i) {
    const std::string packed = world.broadcast(world.rank() == 0 ? corpora[i].files.pack() : "", 0);
    shared.push_back({parts[i], dataio::Corpus::unpack(packed)});
  }
  return shared;
}

std::vector<double> shares_of(const std::vector<OpenCorpus>& corpora) {
  std::vector<double> shares = weights_of(corpora);
  double all = 0;
  for (const double weight : shares) all += weight;
  for (double& share : shares) share /= all;
  return shares;
}

dataio::MixedOrder mixed_order(const RunOptions& options, const std::vector<OpenCorpus>& corpora) {
  std::vector<dataio::Order> orders;
  for (const OpenCorpus& corpus : corpora)
    orders.push_back(sample_order(options, corpus.files.split("train")));
  return {std::move(orders), weights_of(corpora)};
}

void describe_corpora(const std::vector<OpenCorpus>& corpora, CheckpointInfo& info) {
  const std::vector<CorpusRecord> records = records_of(corpora);
  if (records.size() == 1) {
    info.corpus_fingerprint = records.front().fingerprint;
    return;
  }
  info.corpora = records;
  info.corpus_fingerprint = digest_of(text_of(records));
}

std::optional<std::string> other_data(const CheckpointInfo& checkpoint,
                                      const std::vector<OpenCorpus>& corpora) {
  const std::vector<CorpusRecord> before = records_of(checkpoint);
  const std::vector<CorpusRecord> now = records_of(corpora);
  if (reads_alike(before, now)) return std::nullopt;
  if (before.size() == 1 && now.size() == 1) {
    return fmt::format(
        "data.corpus: {} holds other data (fingerprint {}) than the corpus that {} was trained on ({}); "
        "give that one, or start anew with --run.new=true",
        name_of(corpora.front().files), now.front().fingerprint, checkpoint.directory.string(),
        before.front().fingerprint);
  }
  return fmt::format(
      "data.corpus: is another mixture than the one that {} was trained on (by fingerprint: now {}; it was "
      "{}); give that one, its corpora in the same order, or start anew with --run.new=true",
      checkpoint.directory.string(), text_of(now), text_of(before));
}

}  // namespace sluice::train
