#include "dataio/token_import.h"

#include <algorithm>
#include <limits>
#include <string_view>

#include "dataio/corpus_writer.h"
#include "dataio/error.h"
#include "dataio/prepare_plan.h"
#include "dataio/spool.h"
#include "dataio/staging.h"
#include "dataio/token_source.h"
#include "dataio/tokenizer.h"

namespace sluice::dataio {
namespace {

using Progress = std::function<void(const PrepareProgress&)>;
using Faults = std::vector<InputFault>;

constexpr std::string_view kExternalPrefix = "external:";

/// TokenImport after all checks that can be made without reading ids.
struct ImportPlan {
  std::vector<TokenFile> train;
  std::vector<TokenFile> valid;
  std::string tokenizer_name;
  std::int64_t vocabulary_size = 0;
  std::int32_t end_of_document = kNoEndOfDocument;
  std::filesystem::path out;
  std::int64_t input_bytes = 0;
};

std::vector<TokenFile> open_all(const std::vector<std::filesystem::path>& paths, const TokenImport& import,
                                ImportPlan& plan, Faults& faults) {
  std::optional<TokenType> type;
  if (!import.dtype.empty()) type = token_type_named(import.dtype);
  std::vector<TokenFile> files;
  for (const auto& path : paths) {
    try {
      files.push_back(open_token_file(path, import.format, type));
      plan.input_bytes += files.back().tokens * files.back().type.bytes;
    } catch (const DataError& error) {
      faults.push_back({error.file(), error.reason()});
    }
  }
  return files;
}

void check_ids(const TokenImport& import, ImportPlan& plan, Faults& faults) {
  constexpr std::int64_t kMostIds = std::numeric_limits<std::int32_t>::max();
  plan.vocabulary_size = import.vocabulary_size;
  if (import.vocabulary_size < 1 || import.vocabulary_size > kMostIds) {
    faults.push_back({"--vocab-size", std::to_string(import.vocabulary_size) + ": allowed are 1 to " +
                                          std::to_string(kMostIds)});
  }
  if (!import.end_of_document) return;
  if (*import.end_of_document < 0 || *import.end_of_document >= import.vocabulary_size) {
    faults.push_back({"--eos", std::to_string(*import.end_of_document) +
                                   ": allowed are the ids below --vocab-size " +
                                   std::to_string(import.vocabulary_size)});
  } else {
    plan.end_of_document = static_cast<std::int32_t>(*import.end_of_document);
  }
}

ImportPlan plan_import(const TokenImport& import) {
  ImportPlan plan;
  Faults faults;
  if (!import.dtype.empty() && !token_type_named(import.dtype)) {
    faults.push_back({"--dtype", "'" + import.dtype +
                                     "': allowed are uint8, uint16, uint32, uint64, int8, int16, int32, "
                                     "int64"});
  } else {
    if (import.train.empty()) faults.push_back({"--tokens", "names no file"});
    plan.train = open_all(import.train, import, plan, faults);
    plan.valid = open_all(import.valid, import, plan, faults);
  }
  if (import.tokenizer.starts_with(kExternalPrefix) && import.tokenizer.size() > kExternalPrefix.size()) {
    plan.tokenizer_name = import.tokenizer.substr(kExternalPrefix.size());
  } else {
    faults.push_back({"--tokenizer", "'" + import.tokenizer +
                                         "': ids that are there already have external:NAME, which is noted "
                                         "and compared"});
  }
  check_ids(import, plan, faults);
  check_cut(import.valid_fraction, import.shard_tokens, faults);
  plan.out = plan_output(import.out, faults);
  report(faults);
  return plan;
}

/// What is wrong with the ids of one file.
struct IdFaults {
  std::int64_t count = 0;
  std::int64_t id = 0;    ///< the first one
  std::int64_t byte = 0;  ///< where it stands
};

/// The ids of one split, in a spool, with documents.
class ImportedStream {
 public:
  ImportedStream(const std::filesystem::path& directory, const std::string& name, const ImportPlan& plan)
      : spool_(directory, name, plan.vocabulary_size), plan_(plan) {}

  void begin_file(const TokenFile& file) {
    indexed_ = !file.index.empty();
    // Where end_of_document tells documents apart, one may go on from a file to the next.
    if (spool_.tokens() == 0 || indexed_ || plan_.end_of_document < 0) pending_ = true;
  }

  void append(const TokenPiece& piece) {
    ids_.assign(piece.ids.begin(), piece.ids.end());
    if (indexed_ && piece.starts_document) {
      if (needs_separator()) put({&plan_.end_of_document, 1});
      pending_ = true;
    }
    if (indexed_ || plan_.end_of_document < 0) return put(ids_);
    append_separated();
  }

  [[nodiscard]] Spool& spool() { return spool_; }
  [[nodiscard]] const Spool& spool() const { return spool_; }
  [[nodiscard]] std::int64_t documents() const { return documents_; }

 private:
  [[nodiscard]] bool needs_separator() const {
    return plan_.end_of_document >= 0 && spool_.tokens() > 0 && last_ != plan_.end_of_document &&
           ids_.front() != plan_.end_of_document;
  }

  /// A document begins after each run of end_of_document; a run before the first one belongs to it.
  void append_separated() {
    auto rest = std::span<const std::int32_t>(ids_);
    while (!rest.empty()) {
      const bool in_run = rest.front() == plan_.end_of_document;
      const auto end = std::ranges::find_if(
          rest, [&](std::int32_t id) { return (id == plan_.end_of_document) != in_run; });
      const auto part = rest.first(static_cast<std::size_t>(end - rest.begin()));
      if (!in_run && after_run_ && has_text_) pending_ = true;
      put(part);
      after_run_ = in_run;
      has_text_ = has_text_ || !in_run;
      rest = rest.subspan(part.size());
    }
  }

  void put(std::span<const std::int32_t> ids) {
    if (pending_) {
      spool_.begin_document();
      ++documents_;
      pending_ = false;
    }
    spool_.append(pack_tokens(ids, element_bytes_for(plan_.vocabulary_size)));
    last_ = ids.back();
  }

  Spool spool_;
  const ImportPlan& plan_;
  std::vector<std::int32_t> ids_;
  bool indexed_ = false;
  bool pending_ = false;    ///< a document begins with the next id
  bool after_run_ = false;  ///< the last id was end_of_document
  bool has_text_ = false;   ///< there was another id than end_of_document
  std::int32_t last_ = 0;
  std::int64_t documents_ = 0;
};

/// One import, its parts in the order in which they happen.
class Importer {
 public:
  Importer(const ImportPlan& plan, const TokenImport& import, const Progress& progress)
      : plan_(plan), import_(import), progress_(progress), staging_(plan.out) {
    streams_.reserve(2);
    streams_.emplace_back(staging_.path(), "spool-train", plan_);
    if (!plan_.valid.empty()) streams_.emplace_back(staging_.path(), "spool-valid", plan_);
  }

  PrepareResult run() {
    read(plan_.train, streams_.front());
    if (!plan_.valid.empty()) read(plan_.valid, streams_.back());
    report(faults_);
    const std::vector<SplitDraft> splits = draft_splits();
    write(splits);
    std::int64_t documents = 0;
    for (ImportedStream& stream : streams_) {
      stream.spool().remove();
      documents += stream.documents();
    }
    staging_.publish();
    return {.train_tokens = splits[0].end - splits[0].begin,
            .valid_tokens = splits[1].end - splits[1].begin,
            .documents = documents,
            .input_bytes = plan_.input_bytes,
            .vocabulary_size = plan_.vocabulary_size};
  }

 private:
  void read(const std::vector<TokenFile>& files, ImportedStream& stream) {
    for (const TokenFile& file : files) {
      stream.begin_file(file);
      IdFaults found;
      const auto source = open_tokens(file);
      while (const auto piece = source->next()) {
        check(*piece, file, found);
        if (faults_.empty() && found.count == 0) stream.append(*piece);
        done_bytes_ += std::ssize(piece->ids) * file.type.bytes;
        progress_({"tokens", done_bytes_, plan_.input_bytes});
      }
      if (found.count > 0) faults_.push_back({file.path, describe(found, file)});
    }
    stream.spool().finish();
  }

  void check(const TokenPiece& piece, const TokenFile& file, IdFaults& found) const {
    for (std::size_t i = 0; i < piece.ids.size(); ++i) {
      const std::int64_t id = piece.ids[i];
      if (id >= 0 && id < plan_.vocabulary_size) continue;
      if (found.count++ > 0) continue;
      found.id = id;
      found.byte = piece.byte + static_cast<std::int64_t>(i) * file.type.bytes;
    }
  }

  [[nodiscard]] std::string describe(const IdFaults& found, const TokenFile& file) const {
    const std::string more =
        found.count > 1 ? "; " + std::to_string(found.count) + " such ids in this file" : "";
    return "token " + std::to_string((found.byte - file.offset) / file.type.bytes) + ", at byte " +
           std::to_string(found.byte) + ", is " + std::to_string(found.id) + ": --vocab-size allows 0 to " +
           std::to_string(plan_.vocabulary_size - 1) + more;
  }

  /// The text is not known, so that its bytes and characters are 0.
  [[nodiscard]] std::vector<SplitDraft> draft_splits() const {
    const Spool& train = streams_.front().spool();
    const Spool& valid = streams_.back().spool();
    std::int64_t train_end = train.tokens();
    if (streams_.size() == 1) {
      train_end =
          static_cast<std::int64_t>((1 - import_.valid_fraction) * static_cast<double>(train.tokens()));
    }
    const std::int64_t valid_begin = streams_.size() == 1 ? train_end : 0;
    const std::vector<SplitDraft> splits = {
        {.name = name_of(SplitName::kTrain), .spool = &train, .begin = 0, .end = train_end},
        {.name = name_of(SplitName::kValid), .spool = &valid, .begin = valid_begin, .end = valid.tokens()}};
    for (const SplitDraft& split : splits) {
      const bool wanted =
          split.name == name_of(SplitName::kTrain) || streams_.size() > 1 || import_.valid_fraction > 0;
      if (wanted && split.end <= split.begin) {
        throw DataError(plan_.train.front().path,
                        "the split " + split.name + " is empty: " + std::to_string(train.tokens()) +
                            " tokens in --tokens, " + std::to_string(valid.tokens()) +
                            " in the valid part's");
      }
    }
    return splits;
  }

  void write(const std::vector<SplitDraft>& splits) {
    const auto tokenizer =
        make_external_tokenizer(plan_.tokenizer_name, plan_.vocabulary_size, plan_.end_of_document);
    PrepareProgress state{"shards", 0, 0};
    for (const SplitDraft& split : splits) {
      state.total_bytes += (split.end - split.begin) * element_bytes_for(plan_.vocabulary_size);
    }
    write_corpus(staging_.path(), *tokenizer, splits, import_.shard_tokens, [&](std::int64_t bytes) {
      state.done_bytes += bytes;
      progress_(state);
    });
  }

  const ImportPlan& plan_;
  const TokenImport& import_;
  const Progress& progress_;
  StagingDirectory staging_;
  std::vector<ImportedStream> streams_;  ///< train; and valid where it has files of its own
  Faults faults_;
  std::int64_t done_bytes_ = 0;
};

}  // namespace

PrepareResult import_tokens(const TokenImport& import, const Progress& progress) {
  const ImportPlan plan = plan_import(import);
  const Progress quiet = [](const PrepareProgress&) {};
  return Importer(plan, import, progress ? progress : quiet).run();
}

}  // namespace sluice::dataio
