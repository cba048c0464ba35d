#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

namespace sluice::dataio {

enum class DocumentKind { kFiles, kBlankLine, kJsonLines };  ///< what a document is: a file, a paragraph, a record's "text"
enum class SplitKind { kContiguous, kDocuments };            ///< validation: the last fraction, or hashed documents

struct PrepareOptions {
  std::vector<std::filesystem::path> inputs;  ///< files, or directories taken recursively in sorted order
  std::string tokenizer = "bytes";            ///< bytes | chars | sentencepiece:MODEL | train-sentencepiece:VOCAB
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
  std::int64_t documents = 0;
  std::int64_t input_bytes = 0;
  std::int64_t vocabulary_size = 0;
};

/// Text in, corpus directory out (docs/formats.md), in bounded memory. Writes into a temporary name beside `out` and renames
/// it when it is whole and on disk. Refuses an `out` that exists. Throws DataError.
PrepareResult prepare(const PrepareOptions& options, const std::function<void(const PrepareProgress&)>& progress);

}  // namespace sluice::dataio
