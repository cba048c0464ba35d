#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "dataio/prepare.h"
#include "dataio/token_file.h"

namespace sluice::dataio {

/// Ids that another program made, and what they mean.
struct TokenImport {
  TokenFormat format = TokenFormat::kRaw;
  std::vector<std::filesystem::path> train;
  std::vector<std::filesystem::path> valid;  ///< empty: the last valid_fraction of the train files' tokens
  std::string dtype;  ///< uint16 and its like; empty: as the files say, which raw ones do not
  std::int64_t vocabulary_size = 0;
  std::optional<std::int64_t> end_of_document;  ///< none: where documents end within a file is not known
  std::string tokenizer = "external:unnamed";   ///< external:NAME
  std::filesystem::path out;
  std::int64_t shard_tokens = 1 << 27;
  double valid_fraction = 0.05;
};

/// Ids in, corpus directory out, in bounded memory; staged and published as prepare() does. Ids are kept as
/// they are, the files of a split one after the other. Documents: Megatron's are its index's, and
/// end_of_document is put between two where neither the end of the first nor the start of the second is it;
/// elsewhere one begins after each run of end_of_document, or, where none is given, with each file. Every id
/// must be below vocabulary_size. Throws DataError; faults of options and headers are reported together, a
/// line each, before anything is written, and then those of ids: for each file the first one with its place,
/// and how many there are.
PrepareResult import_tokens(const TokenImport& import,
                            const std::function<void(const PrepareProgress&)>& progress);

}  // namespace sluice::dataio
