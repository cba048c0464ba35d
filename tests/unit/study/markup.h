#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <regex>
#include <string>
#include <vector>

// What can be said of a page without a browser.

/// Elements closed in the order in which they were opened, attributes quoted and none twice in an element.
inline void expect_well_formed(const std::string& page) {
  const std::regex tag(
      R"(<(/?)([a-zA-Z][a-zA-Z0-9]*)((?:\s+[a-zA-Z:-]+\s*=\s*(?:"[^"<]*"|'[^'<]*'))*)\s*(/?)>)");
  const std::regex attribute(R"(([a-zA-Z:-]+)\s*=)");
  std::vector<std::string> open;
  std::int64_t tags = 0;
  for (auto it = std::sregex_iterator(page.begin(), page.end(), tag); it != std::sregex_iterator();
       ++it, ++tags) {
    const std::string name = (*it)[2];
    const std::string attributes = std::regex_replace((*it)[3].str(), std::regex(R"("[^"]*"|'[^']*')"), "");
    std::vector<std::string> seen;
    for (auto a = std::sregex_iterator(attributes.begin(), attributes.end(), attribute);
         a != std::sregex_iterator(); ++a)
      seen.push_back((*a)[1]);
    std::sort(seen.begin(), seen.end());
    EXPECT_EQ(std::adjacent_find(seen.begin(), seen.end()), seen.end()) << it->str();
    if ((*it)[1] == "/") {
      ASSERT_FALSE(open.empty()) << it->str();
      ASSERT_EQ(open.back(), name);
      open.pop_back();
    } else if ((*it)[4] != "/") {
      open.push_back(name);
    }
  }
  EXPECT_TRUE(open.empty());
  // Every '<' but the document type's begins one of those tags.
  EXPECT_EQ(std::count(page.begin(), page.end(), '<'), tags + 1);
}

/// Refers to no other file, and its drawings to its own definitions alone.
inline void expect_self_contained(const std::string& page) {
  for (const char* reference : {"http:", "https:", "src=", "url(", "@import", "<link", "<script", "file:"})
    EXPECT_EQ(page.find(reference), std::string::npos) << reference;
  const std::regex href("href=['\"]([^'\"]*)");
  for (auto it = std::sregex_iterator(page.begin(), page.end(), href); it != std::sregex_iterator(); ++it)
    EXPECT_TRUE((*it)[1] == "#point" || (*it)[1] == "#ring") << it->str();
}

/// Colours come from the style sheet, which has both schemes and paper.
inline void expect_both_schemes(const std::string& page) {
  EXPECT_NE(page.find("prefers-color-scheme: dark"), std::string::npos);
  EXPECT_NE(page.find("@media print"), std::string::npos);
  EXPECT_EQ(page.find("rgb("), std::string::npos);
  EXPECT_EQ(page.find("\"black\""), std::string::npos);
  for (const char* paper : {"'white'", "\"white\"", "#ffffff'"})  // no drawing has a paper of its own
    EXPECT_EQ(page.find(paper), std::string::npos) << paper;
}

/// The cells (with plain spaces and signs) of the row of a table whose first cell is `first`, and whose next
/// is `second` where it is not empty.
inline std::vector<std::string> table_row(const std::string& page, const std::string& first,
                                          const std::string& second = "") {
  const std::regex row(R"(<tr>((?:<td[^>]*>[^<]*</td>)+)</tr>)");
  const std::regex cell(R"(<td[^>]*>([^<]*)</td>)");
  for (auto it = std::sregex_iterator(page.begin(), page.end(), row); it != std::sregex_iterator(); ++it) {
    const std::string inside = (*it)[1];
    std::vector<std::string> cells;
    for (auto c = std::sregex_iterator(inside.begin(), inside.end(), cell); c != std::sregex_iterator(); ++c)
      cells.push_back((*c)[1]);
    for (auto& text : cells) {
      text = std::regex_replace(text, std::regex("\u00A0"), " ");
      text = std::regex_replace(text, std::regex("\u2212"), "-");
    }
    if (cells[0] == first && (second.empty() || (cells.size() > 1 && cells[1] == second))) return cells;
  }
  return {};
}
