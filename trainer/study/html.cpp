#include "trainer/study/html.h"

#include <fmt/format.h>

#include <cstdint>

namespace sluice::study {
namespace {

constexpr std::string_view kReplacement = "\xEF\xBF\xBD";

bool continuation(std::string_view text, std::size_t at) {
  return at < text.size() && (static_cast<unsigned char>(text[at]) & 0xC0U) == 0x80U;
}

/// Bytes of the well-formed UTF-8 sequence at `at`; 0 where there is none (RFC 3629, table of section 4).
std::size_t sequence_length(std::string_view text, std::size_t at) {
  const auto lead = static_cast<unsigned char>(text[at]);
  const auto second = static_cast<unsigned char>(at + 1 < text.size() ? text[at + 1] : 0);
  if (lead < 0x80) return 1;
  if (lead >= 0xC2 && lead <= 0xDF) return continuation(text, at + 1) ? 2 : 0;
  const bool two_more = continuation(text, at + 1) && continuation(text, at + 2);
  if (lead >= 0xE0 && lead <= 0xEF) {
    const bool overlong = lead == 0xE0 && second < 0xA0;
    const bool surrogate = lead == 0xED && second > 0x9F;
    return two_more && !overlong && !surrogate ? 3 : 0;
  }
  if (lead >= 0xF0 && lead <= 0xF4) {
    const bool overlong = lead == 0xF0 && second < 0x90;
    const bool too_large = lead == 0xF4 && second > 0x8F;
    return two_more && continuation(text, at + 3) && !overlong && !too_large ? 4 : 0;
  }
  return 0;
}

constexpr std::string_view kPalette = R"css(
:root { color-scheme: light dark; --paper: #ffffff; --card: #f5f7f9; --ink: #1b2330; --quiet: #59636f; --line: #dfe4ea;
  --1: #1f6fb4; --2: #d1591a; --3: #17876a; --4: #8b5fb8; --5: #c49a0a; --6: #a9b3be; }
@media (prefers-color-scheme: dark) { :root { --paper: #12161b; --card: #1b2128; --ink: #e4e9ef; --quiet: #9aa6b2;
  --line: #2c343d; --1: #5aa9e6; --2: #f08a4b; --3: #41c3a0; --4: #b794e0; --5: #e3bd3f; --6: #56616d; } }
@media print { :root { color-scheme: light; --paper: #ffffff; --card: #f5f7f9; --ink: #1b2330; --quiet: #59636f;
  --line: #dfe4ea; --1: #1f6fb4; --2: #d1591a; --3: #17876a; --4: #8b5fb8; --5: #c49a0a; --6: #a9b3be; } }
)css";

constexpr std::string_view kStyle = R"css(
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 56rem; padding: 2rem 1.25rem 3rem; background: var(--paper); color: var(--ink);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0; overflow-wrap: anywhere; }
h2 { font-size: 1.1rem; margin: 2.4rem 0 .4rem; }
h3 { font-size: .95rem; margin: 1.4rem 0 .3rem; color: var(--quiet); font-weight: 600; }
p { margin: .3rem 0; } .quiet { color: var(--quiet); font-size: .9rem; }
.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(10.5rem, 1fr)); gap: .75rem; margin: 1.4rem 0 0;
  padding: 0; }
.figures > div { background: var(--card); border-radius: .5rem; padding: .7rem .9rem; }
.figures dt { color: var(--quiet); font-size: .82rem; } .figures dd { margin: 0; font-size: 1.35rem; font-weight: 600;
  font-variant-numeric: tabular-nums; } .figures .note { font-size: .8rem; line-height: 1.35; font-weight: 400; color: var(--quiet); }
.legend { display: flex; flex-wrap: wrap; gap: .15rem 1.1rem; list-style: none; padding: 0; margin: .2rem 0 .4rem;
  font-size: .88rem; color: var(--quiet); }
.legend i { display: inline-block; width: 1.3em; height: .22em; margin-right: .45em; vertical-align: middle;
  background: currentColor; border-radius: 1px; } 
.legend .dot { width: .6em; height: .6em; border-radius: 50%; } .legend .area { width: .85em; height: .85em; }
.legend .ring { width: .65em; height: .65em; border: .15em solid currentColor; border-radius: 50%; background: none; }
.legend .dashed { background: repeating-linear-gradient(90deg, currentColor 0 .35em, transparent .35em .5em); height: .16em; }
.warning { border-left: .25rem solid var(--2); padding-left: .6rem; }
.scroll { overflow-x: auto; } .scroll table { margin: .3rem 0 .6rem; }
figure { margin: 0; } svg { display: block; width: 100%; height: auto; } svg.narrow { display: none; }
svg text { font-family: inherit; }
.two { display: grid; grid-template-columns: repeat(auto-fit, minmax(19rem, 1fr)); gap: 0 1.5rem; }
.two section { margin-top: .8rem; } .two svg.narrow { display: block; } .two svg.wide { display: none; }
@media screen and (max-width: 620px) { svg.wide { display: none; } svg.narrow { display: block; } body { padding: 1.2rem 1rem 2rem; }
  .figures { grid-template-columns: 1fr 1fr; } }
.tables { columns: 20rem 2; column-gap: 1.5rem; } .tables section { break-inside: avoid; margin-bottom: 1rem; }
.tables h3, .two h3 { margin-top: 0; } .wide-table { font-size: .8rem; } .scroll td.number { white-space: normal; overflow-wrap: normal; }
table { border-collapse: collapse; width: 100%; font-size: .88rem; }
th, td { text-align: left; padding: .22rem .5rem .22rem 0; border-bottom: 1px solid var(--line); vertical-align: top; }
th { font-weight: 400; color: var(--quiet); } th[scope] { width: 45%; } td { overflow-wrap: anywhere; } td:first-child { overflow-wrap: normal; }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
.scroll th { vertical-align: bottom; white-space: normal; } .scroll th, .scroll td { padding-right: .8rem; }
.scroll th:last-child, .scroll td:last-child { padding-right: 0; } .scroll td { min-width: 2.5rem; } .scroll td:not(.number) { min-width: 4.5rem; overflow-wrap: break-word; }
pre { background: var(--card); border-radius: .5rem; padding: .9rem 1rem; margin: .4rem 0; overflow-x: auto; white-space: pre-wrap;
  overflow-wrap: anywhere; font: .85rem/1.45 ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, monospace; }
@media print { body { max-width: none; padding: 0; font-size: 11pt; } .scroll { overflow: visible; } .scroll table { font-size: .7rem; } figure, tr, .figures > div, pre, .two section { break-inside: avoid; }
  h2, h3 { break-after: avoid; } * { print-color-adjust: exact; -webkit-print-color-adjust: exact; } }
)css";

constexpr std::string_view kDrawn = R"css(
.s-ink { stroke: var(--quiet); } .f-ink { fill: var(--quiet); } .s-grid { stroke: var(--line); }
.tint1 { opacity: .8; } .tint2 { opacity: .6; } .tint3, .faint { opacity: .4; } .tint4, .pale { opacity: .2; }
)css";

std::string colour_classes() {
  std::string css(kDrawn);
  for (int i = 1; i <= 6; ++i)
    css += fmt::format(
        ".s-{0} {{ stroke: var(--{0}); }} .f-{0} {{ fill: var(--{0}); }} .c-{0} {{ color: var(--{0}); }}\n",
        i);
  return css;
}

}  // namespace

std::string escape_html(std::string_view text) {
  std::string out;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t length = sequence_length(text, at);
    const char c = text[at];
    if (length == 0)
      out += kReplacement;
    else if (length > 1)
      out += text.substr(at, length);
    else if (c == '&')
      out += "&amp;";
    else if (c == '<')
      out += "&lt;";
    else if (c == '>')
      out += "&gt;";
    else if (c == '"')
      out += "&quot;";
    else if (c == '\'')
      out += "&#39;";
    else if (static_cast<unsigned char>(c) < 0x20 && c != '\n' && c != '\t')
      out += c == '\r' ? "" : kReplacement;
    else if (c == 0x7F)
      out += kReplacement;
    else
      out += c;
    at += length == 0 ? 1 : length;
  }
  return out;
}

std::string value_table(const std::vector<Row>& rows) {
  std::string out = "<table>\n";
  for (const auto& row : rows)
    out += fmt::format("<tr><th scope=\"row\">{}</th><td>{}</td></tr>\n", escape_html(row.name),
                       escape_html(row.value));
  return out + "</table>\n";
}

std::string drawing_style() { return std::string(kPalette) + colour_classes(); }

std::string html_page(const std::string& title, const std::string& body) {
  return fmt::format(
      "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\"/>\n"
      "<meta name=\"viewport\" content=\"width=device-width, "
      "initial-scale=1\"/>\n<title>{}</title>\n<style>{}{}{}</style>\n"
      "</head>\n<body>\n{}</body>\n</html>\n",
      escape_html(title), kPalette, kStyle, colour_classes(), body);
}

}  // namespace sluice::study
