#pragma once

#include <cstdio>

#include "trainer/cli/arguments.h"

namespace sluice::cli {

/// --json of a command that ends in print_result().
[[nodiscard]] inline Flag json_flag() {
  return {.name = "--json", .help = "one JSON object instead of lines"};
}

/// The end of a command that measures or shows something, on rank 0: `values`, a JSON library's object, on
/// one line where --json was given, else what `print_lines()` prints. What is not UTF-8 becomes U+FFFD.
template <typename Values, typename PrintLines>
void print_result(const Arguments& arguments, const Values& values, const PrintLines& print_lines) {
  if (!arguments.has("--json")) return print_lines();
  std::puts(values.dump(-1, ' ', false, Values::error_handler_t::replace).c_str());
}

}  // namespace sluice::cli
