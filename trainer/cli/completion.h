#pragma once

#include <string>
#include <vector>

namespace sluice::cli {

/// What bash offers after a command's name: the flags that its help names, in order, each once;
/// "--section.key=" stands for every setting where the help speaks of "--section.key=value".
[[nodiscard]] std::vector<std::string> completion_words(const std::string& help);

/// A script for bash, made from the command and option tables: it completes commands, their flags, settings,
/// the choices of a setting ("--train.precision=" offers fp32, tf32, ...), and files elsewhere.
[[nodiscard]] std::string bash_completion();

}  // namespace sluice::cli
