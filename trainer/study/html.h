#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace sluice::study {

/// Text as it may stand in an element or a quoted attribute: markup escaped, control characters and bytes
/// that are not UTF-8 replaced by U+FFFD.
[[nodiscard]] std::string escape_html(std::string_view text);

struct Row {
  std::string name;
  std::string value;
};
/// A table of names and values, escaped here.
[[nodiscard]] std::string value_table(const std::vector<Row>& rows);

/// The part of the style sheet that a drawing needs: colours, light and dark.
[[nodiscard]] std::string drawing_style();

/// A whole document around `body` (markup): style sheet inside, light and dark, paper and phone. It refers to
/// no other file.
[[nodiscard]] std::string html_page(const std::string& title, const std::string& body);

}  // namespace sluice::study
