#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "dataio/documents.h"
#include "dataio/tokenizer.h"

namespace sluice::dataio {

enum class SplitKind { kContiguous, kDocuments };  ///< validation: the last fraction, or hashed documents

struct PrepareOptions {
  std::vector<std::filesystem::path> inputs;  ///< files, or directories taken recursively in sorted order
  std::string tokenizer = "bytes";  ///< bytes | chars | sentencepiece:MODEL | train-sentencepiece:VOCAB
  MaskToken mask_token = MaskToken::kNone;  ///< masked language models need one
  std::filesystem::path out;
  std::int64_t shard_tokens = 1 << 27;
  double valid_fraction = 0.05;
  SplitKind split = SplitKind::kContiguous;
  DocumentKind documents = DocumentKind::kFiles;
  std::int64_t jobs = 0;  ///< threads; 0: one for each core. The output is the same for any number
};

/// How far a long step is: done and total in bytes of input.
struct PrepareProgress {
  std::string phase;
  std::int64_t done_bytes = 0;
  std::int64_t total_bytes = 0;
};

struct PrepareResult {
  std::int64_t train_tokens = 0;
  std::int64_t valid_tokens = 0;
  std::int64_t documents = 0;  ///< of the input
  std::int64_t input_bytes = 0;
  std::int64_t vocabulary_size = 0;
};

/// Text in, corpus directory out (docs/formats.md), in bounded memory. Writes into a temporary name beside
/// `out` and renames it when it is whole and on disk; what a killed run left there is cleared by the next
/// one. Refuses an `out` that exists. The end-of-document token stands between documents only. Contiguous: of
/// N tokens the first floor((1 - valid_fraction) N) are train, wherever that falls. Documents: a hash of a
/// document's beginning decides, so that equal documents keep together. chars takes its characters from all
/// of the text; train-sentencepiece trains on a sample of the train part (contiguous: the first 1 -
/// valid_fraction of the input's bytes). `progress` is called on the calling thread, often. Throws DataError;
/// faults of several inputs and options are reported together, a line each.
PrepareResult prepare(const PrepareOptions& options,
                      const std::function<void(const PrepareProgress&)>& progress);

}  // namespace sluice::dataio
