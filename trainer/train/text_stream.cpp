#include "trainer/train/text_stream.h"

#include <algorithm>
#include <string_view>
#include <utility>

#include "dataio/utf8.h"

namespace sluice::train {
namespace {

constexpr std::string_view kReplacement = "\xEF\xBF\xBD";
constexpr std::size_t kLongestCharacter = 4;  // bytes, and so tokens of one byte each

/// Whether `tail` may yet become a character: shorter than its first byte says, and so far well begun.
bool begun(std::string_view tail) {
  const auto lead = static_cast<unsigned char>(tail[0]);
  const std::size_t length = lead >= 0xF0 && lead <= 0xF4 ? 4 : lead >= 0xE0 ? 3 : 2;
  if (lead < 0xC2 || lead > 0xF4 || tail.size() >= length) return false;
  std::string filled(tail);  // some continuation makes it whole if the bytes so far are in range
  for (const char second : {'\x80', '\xA0', '\x90', '\xBF'}) {
    filled.resize(tail.size());
    filled.push_back(second);
    while (filled.size() < length) filled.push_back('\x80');
    if (dataio::code_point_at(filled, 0).bytes == static_cast<std::int64_t>(length)) return true;
  }
  return false;
}

/// Takes what is whole from the front of `bytes`.
std::string take_whole(std::string& bytes) {
  std::string out;
  std::size_t at = 0;
  while (at < bytes.size()) {
    const std::int64_t length = dataio::code_point_at(bytes, static_cast<std::int64_t>(at)).bytes;
    if (length > 0) {
      out += bytes.substr(at, static_cast<std::size_t>(length));
      at += static_cast<std::size_t>(length);
    } else if (begun(std::string_view(bytes).substr(at))) {
      break;
    } else {
      out += kReplacement;
      ++at;
    }
  }
  bytes.erase(0, at);
  return out;
}

}  // namespace

TextStream::TextStream(const dataio::Tokenizer& tokenizer, std::vector<std::int32_t> context)
    : tokenizer_(tokenizer), context_(std::move(context)) {}

std::string TextStream::pending_text() const {
  std::vector<std::int32_t> both = context_;
  both.insert(both.end(), pending_.begin(), pending_.end());
  const std::string before = tokenizer_.decode(context_);
  const std::string after = tokenizer_.decode(both);
  const auto shared = std::mismatch(before.begin(), before.end(), after.begin(), after.end()).second;
  return {shared, after.end()};
}

std::string TextStream::push(std::int32_t token) {
  pending_.push_back(token);
  const std::string text = pending_text();
  // A SentencePiece library decodes a part of a character as U+FFFD: the next tokens may complete it.
  if (text.ends_with(kReplacement) && pending_.size() < kLongestCharacter) return "";
  bytes_ += text;
  context_ = std::exchange(pending_, {});
  return take_whole(bytes_);
}

std::string TextStream::finish() {
  bytes_ += pending_text();
  context_ = std::exchange(pending_, {});
  std::string out = take_whole(bytes_);
  if (!std::exchange(bytes_, "").empty()) out += kReplacement;
  return out;
}

}  // namespace sluice::train
