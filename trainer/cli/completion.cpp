#include "trainer/cli/completion.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <string_view>

#include "trainer/cli/command.h"
#include "trainer/cli/option_table.h"

namespace sluice::cli {
namespace {

constexpr std::string_view kAnySetting = "--section.key";

bool in_flag(char c) {
  return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '-' || c == '.' || c == '_';
}

void add_once(std::vector<std::string>& words, const std::string& word) {
  if (std::find(words.begin(), words.end(), word) == words.end()) words.push_back(word);
}

std::string joined(const std::vector<std::string>& words) {
  std::string text;
  for (const auto& word : words) text += (text.empty() ? "" : " ") + word;
  return text;
}

/// "fp32|tf32|bf16" as words; nothing for "integer" and the like.
std::string choices_of(std::string type) {
  if (type.find('|') == std::string::npos) return "";
  std::replace(type.begin(), type.end(), '|', ' ');
  return type;
}

/// `case` of a bash function: what each setting may be.
std::string choice_cases() {
  std::string cases;
  for (const auto& row : option_table())
    if (const auto choices = choices_of(row.type); !choices.empty())
      cases += fmt::format("    --{}) echo '{}' ;;\n", row.key, choices);
  return cases;
}

std::string command_cases() {
  std::string cases;
  for (const auto& command : commands())
    cases += fmt::format("    {}) echo '{}' ;;\n", command.name, joined(completion_words(command.help)));
  return cases;
}

std::string command_names() {
  std::vector<std::string> names{"--help", "--version"};
  for (const auto& command : commands()) names.push_back(command.name);
  return joined(names);
}

// "=" parts words in bash's COMP_WORDS: the word is taken from the line itself, and only what stands behind
// its "=" is replaced.
constexpr const char* kBody = R"bash(_sluice() {
  local line=${COMP_LINE:0:COMP_POINT} word command="" each
  word=${line##*[[:space:]]}
  for each in "${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
    case " $(_sluice_commands) " in *" $each "*) command=$each; break ;; esac
  done
  COMPREPLY=()
  if [[ $word == --*=* ]]; then
    local value=${word#*=} choices
    choices=$(_sluice_choices "${word%%=*}")
    if [[ -n $choices ]]; then
      COMPREPLY=($(compgen -W "$choices" -- "$value"))
    else
      COMPREPLY=($(compgen -f -- "$value"))
    fi
  elif [[ -z $command ]]; then
    COMPREPLY=($(compgen -W "$(_sluice_commands)" -- "$word"))
  elif [[ $word == -* ]]; then
    COMPREPLY=($(compgen -W "$(_sluice_flags "$command") --help" -- "$word"))
    [[ ${COMPREPLY[0]-} != *= ]] || compopt -o nospace 2>/dev/null
  else
    COMPREPLY=($(compgen -f -- "$word"))
  fi
}
complete -o filenames -F _sluice sluice
)bash";

}  // namespace

std::vector<std::string> completion_words(const std::string& help) {
  std::vector<std::string> words;
  for (std::size_t at = help.find("--"); at != std::string::npos; at = help.find("--", at)) {
    std::size_t end = at;
    while (end < help.size() && in_flag(help[end])) ++end;
    const bool starts = at == 0 || !in_flag(help[at - 1]);
    std::string word = help.substr(at, end - at);
    at = end;
    while (word.ends_with('.') || word.ends_with('-')) word.pop_back();
    if (!starts || word.size() < 3) continue;
    if (word == kAnySetting) {
      for (const auto& row : option_table()) add_once(words, "--" + row.key + "=");
    } else if (word.find('.') == std::string::npos) {  // of settings only those in the table, with their "="
      add_once(words, word);
    }
  }
  return words;
}

std::string bash_completion() {
  std::string script = "# bash completion of sluice, written by `sluice completion bash`.\n";
  script += fmt::format("_sluice_commands() {{ echo '{}'; }}\n", command_names());
  script += "_sluice_flags() {\n  case $1 in\n" + command_cases() + "  esac\n}\n";
  script += "_sluice_choices() {\n  case $1 in\n" + choice_cases() + "  esac\n}\n";
  return script + kBody;
}

}  // namespace sluice::cli
