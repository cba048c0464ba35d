#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "dataio/documents.h"
#include "dataio/prepare.h"

namespace sluice::dataio {

enum class TokenizerSource { kBytes, kChars, kModelFile, kTrain };

/// PrepareOptions after all checks.
struct PreparePlan {
  std::vector<InputFile> files;
  std::int64_t input_bytes = 0;
  TokenizerSource tokenizer = TokenizerSource::kBytes;
  std::filesystem::path model;  ///< kModelFile
  std::int64_t vocabulary = 0;  ///< kTrain
  MaskToken mask_token = MaskToken::kNone;
  std::filesystem::path out;  ///< without a trailing slash
  std::int64_t jobs = 1;
  DocumentKind documents = DocumentKind::kFiles;
  SplitKind split = SplitKind::kContiguous;
  double valid_fraction = 0;
  std::int64_t shard_tokens = 0;
};

/// Checks everything that can be checked before reading text. Throws one DataError with all faults, a line
/// each.
[[nodiscard]] PreparePlan plan_preparation(const PrepareOptions& options);

/// `out` without a trailing slash, to be made; what is wrong with it goes into `faults`.
[[nodiscard]] std::filesystem::path plan_output(const std::filesystem::path& out,
                                                std::vector<InputFault>& faults);
/// What is wrong with --valid-fraction and --shard-tokens.
void check_cut(double valid_fraction, std::int64_t shard_tokens, std::vector<InputFault>& faults);
/// Throws one DataError with all faults, a line each; nothing where there are none.
void report(const std::vector<InputFault>& faults);

enum class SplitName { kTrain, kValid };
[[nodiscard]] const char* name_of(SplitName split);

/// Where a document goes under SplitKind::kDocuments, by a hash of its first 4 KiB. `first_piece` must hold
/// them.
[[nodiscard]] SplitName split_of_document(std::string_view first_piece, double valid_fraction);

}  // namespace sluice::dataio
