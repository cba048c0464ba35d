#include "dataio/error.h"
#include "dataio/sentencepiece_support.h"
#include "dataio/tokenizer.h"

// In place of tokenizer_sentencepiece.cpp where CMake found no SentencePiece.
namespace sluice::dataio {

bool has_sentencepiece() { return false; }

std::unique_ptr<Tokenizer> make_sentencepiece_tokenizer(std::string /*model*/, MaskToken /*mask*/) {
  throw DataError("a SentencePiece tokenizer", kWithoutSentencePiece);
}

std::string train_sentencepiece(std::string_view /*text*/, std::int64_t /*vocabulary_size*/,
                                MaskToken /*mask*/) {
  throw DataError("a SentencePiece tokenizer", kWithoutSentencePiece);
}

}  // namespace sluice::dataio
