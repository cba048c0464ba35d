#pragma once

#include <string>

namespace sluice::cli {

/// Of this program, baked in when it was built: "0.1.0", and "1a2b3c4d5e6f" (", modified" where the tree had
/// changes).
[[nodiscard]] const char* program_version();
[[nodiscard]] const char* program_commit();

/// What `sluice --version` prints, and resolved.ini opens with: a line for this program and for each library,
/// as found at run time.
[[nodiscard]] std::string version_text();

}  // namespace sluice::cli
