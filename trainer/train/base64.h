#pragma once

#include <string>
#include <string_view>

namespace sluice::train {

/// Bytes as text (RFC 4648, section 4, padded), which Python's base64.b64decode reads.
[[nodiscard]] std::string base64_of(std::string_view bytes);
/// Throws std::invalid_argument where `text` is not what base64_of() writes.
[[nodiscard]] std::string bytes_of_base64(std::string_view text);

}  // namespace sluice::train
