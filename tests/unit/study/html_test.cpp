#include "trainer/study/html.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace sluice::study {
namespace {

TEST(Html, EscapesMarkupInElementsAndAttributes) {
  EXPECT_EQ(escape_html(R"(<a href="x">'&'</a>)"), "&lt;a href=&quot;x&quot;&gt;&#39;&amp;&#39;&lt;/a&gt;");
}

TEST(Html, KeepsEveryWellFormedSequence) {
  const std::string text = "plain, na\u00EFve, \u20AC, \U0001F600\tand\na line";
  EXPECT_EQ(escape_html(text), text);
}

TEST(Html, ReplacesWhatIsNotUtf8OrNotAllowedInAPage) {
  const std::string mark = "\xEF\xBF\xBD";
  EXPECT_EQ(escape_html("\xFF"), mark);
  EXPECT_EQ(escape_html("a\xC3"), "a" + mark);                               // cut in a character
  EXPECT_EQ(escape_html("\xC0\x80"), mark + mark);                           // overlong
  EXPECT_EQ(escape_html("\xED\xA0\x80"), mark + mark + mark);                // surrogate
  EXPECT_EQ(escape_html("\xF4\x90\x80\x80"), mark + mark + mark + mark);     // above U+10FFFF
  EXPECT_EQ(escape_html(std::string("\0\x1B[1m", 5)), mark + mark + "[1m");  // NUL, escape
}

TEST(Html, TablesEscapeNamesAndValues) {
  EXPECT_THAT(value_table({{"<key>", "a & b"}}),
              testing::AllOf(testing::HasSubstr("&lt;key&gt;"), testing::HasSubstr("a &amp; b")));
}

}  // namespace
}  // namespace sluice::study
