#include "trainer/cli/syntax.h"

#include <algorithm>
#include <boost/program_options.hpp>
#include <boost/version.hpp>
#include <sstream>

namespace sluice::cli {
namespace {

namespace po = boost::program_options;

constexpr const char* kProbe = "probe";

const po::value_semantic* semantic_of(Takes takes) {
  switch (takes) {
    case Takes::kNothing:
      return po::bool_switch();
    case Takes::kOne:
      return po::value<std::string>();
    case Takes::kMany:
      return po::value<std::vector<std::string>>()->multitoken();
    case Takes::kOptional:
      return po::value<std::string>()->implicit_value("true", "true");
  }
  return nullptr;
}

bool is_flag(const std::string& word) { return word.size() > 2 && word.starts_with("--"); }

std::string flag_name(const std::string& word) { return word.substr(2, word.find('=') - 2); }

ParsedWord positional(std::string word) { return {WordKind::kPositional, "", {std::move(word)}, ""}; }

std::string fault_of(const po::error& error) {
  const auto* syntax = dynamic_cast<const po::invalid_command_line_syntax*>(&error);
  if (syntax == nullptr) return error.what();
  return syntax->kind() == po::invalid_syntax::extra_parameter ? "takes no value" : "needs a value";
}

// One flag and the words up to the next flag.
void parse_group(const po::options_description& description, const std::vector<std::string>& group,
                 std::vector<ParsedWord>& out) {
  try {
    const auto style = po::command_line_style::allow_long | po::command_line_style::long_allow_adjacent |
                       po::command_line_style::long_allow_next;
    const auto parsed =
        po::command_line_parser(group).options(description).style(style).allow_unregistered().run();
    for (const auto& option : parsed.options) {
      if (option.position_key >= 0) {
        for (const auto& word : option.value) out.push_back(positional(word));
      } else if (option.unregistered) {
        // Boost keeps "--name=value" whole; the value is of no interest to anyone.
        out.push_back({WordKind::kUnknown, flag_name(group.front()), option.value, ""});
      } else {
        out.push_back({WordKind::kKnown, option.string_key, option.value, ""});
      }
    }
  } catch (const po::error& error) {
    out.push_back({WordKind::kMalformed, flag_name(group.front()), {}, fault_of(error)});
  }
}

}  // namespace

std::vector<ParsedWord> parse_words(const std::vector<KnownWord>& known,
                                    const std::vector<std::string>& words) {
  po::options_description description;
  for (const auto& word : known) description.add_options()(word.name.c_str(), semantic_of(word.takes), "");
  std::vector<ParsedWord> out;
  std::size_t next = 0;
  while (next < words.size() && !is_flag(words[next])) out.push_back(positional(words[next++]));
  while (next < words.size()) {
    std::vector<std::string> group{words[next++]};
    while (next < words.size() && !is_flag(words[next])) group.push_back(words[next++]);
    parse_group(description, group, out);
  }
  return out;
}

std::vector<ParsedLine> parse_ini(const std::string& text) {
  const po::options_description nothing;
  std::vector<ParsedLine> out;
  std::string section;  // "optim." once [optim] was read
  std::istringstream lines(text);
  std::string line;
  for (std::int64_t number = 1; std::getline(lines, line); ++number) {
    // The probe after the line comes back under the section that is open then.
    std::ostringstream context;
    if (!section.empty()) context << '[' << section.substr(0, section.size() - 1) << "]\n";
    context << line << '\n' << kProbe << "=\n";
    std::istringstream one(context.str());
    try {
      const auto parsed = po::parse_config_file(one, nothing, true);
      const auto& probe = parsed.options.back().string_key;
      section = probe.substr(0, probe.size() - std::string(kProbe).size());
      if (parsed.options.size() == 2) {
        const auto& option = parsed.options.front();
        out.push_back({number, option.string_key, option.value.empty() ? "" : option.value.front(), ""});
      }
    } catch (const po::error&) {
      out.push_back({number, line, "", "neither [section] nor key = value"});
    }
  }
  return out;
}

std::string boost_version() {
  std::string text = BOOST_LIB_VERSION;
  std::replace(text.begin(), text.end(), '_', '.');
  return text;
}

}  // namespace sluice::cli
