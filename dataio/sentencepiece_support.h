#pragma once

namespace sluice::dataio {

/// Whether this build has SentencePiece. Without it make_sentencepiece_tokenizer() and train_sentencepiece()
/// throw DataError with kWithoutSentencePiece.
[[nodiscard]] bool has_sentencepiece();

inline constexpr const char* kWithoutSentencePiece =
    "this program was built without SentencePiece, and can neither train such a tokenizer nor use one; "
    "bytes, "
    "chars and external work (docs/install.md says how to build with it)";

}  // namespace sluice::dataio
