#pragma once

#include <string>
#include <variant>
#include <vector>

#include "trainer/study/gnuplot.h"
#include "trainer/study/html.h"

// A page said once, as parts, and written three times: HTML for a browser, Markdown for a repository, CSV for
// whoever wants the numbers. What is drawn and what lies in the CSV are the same vectors.

namespace sluice::study {

/// A title; level 2 for sections, 3 within them.
struct Heading {
  std::string text;
  int level = 2;
};

/// Plain text, escaped by the page. Quiet: notes below a chart.
enum class Tone { kPlain, kQuiet, kWarning };
struct Paragraph {
  std::string text;
  Tone tone = Tone::kQuiet;
};

/// One of the numbers that a page opens with.
struct KeyNumber {
  std::string name;
  std::string value;
  std::string note;
};
struct KeyNumbers {
  std::vector<KeyNumber> numbers;
};

enum class Align { kText, kNumber };
struct Column {
  std::string name;  ///< with its unit
  Align align = Align::kNumber;
};
/// Rows of as many cells as there are columns, as they are shown. `name` is the CSV's stem; "" writes none.
struct Grid {
  std::string name;
  std::vector<Column> columns;
  std::vector<std::vector<std::string>> rows;
};

/// A chart under its legend. `name` is the stem of its CSV and SVG, unique on the page. `title`, where not
/// empty, is a heading of its own.
struct Figure {
  std::string name;
  Chart chart;
  std::string title = {};
};
/// Charts that stand beside each other where there is room; `level` is that of their titles.
struct Pair {
  std::vector<Figure> figures;
  int level = 3;
};

/// Tables of names and values in columns, each under its title (settings).
struct ValueTables {
  struct One {
    std::string title;
    std::vector<Row> rows;
  };
  std::vector<One> tables;
};

/// Text as it is, in a fixed pitch.
struct Preformatted {
  std::string text;
};

using Part = std::variant<Heading, Paragraph, KeyNumbers, Grid, Figure, Pair, ValueTables, Preformatted>;

struct Page {
  std::string title;     ///< of the page, its first heading
  std::string subtitle;  ///< a line below it
  std::vector<Part> parts = {};

  void add(Part part) { parts.push_back(std::move(part)); }
  /// Adds all parts of another list.
  void append(std::vector<Part> more);
};

/// Whether a chart has a point to draw; figures without one are left out of every form.
[[nodiscard]] bool drawable(const Chart& chart);

/// The legend of a chart as an HTML list, one entry for each label; empty where there is one series alone.
[[nodiscard]] std::string legend(const Chart& chart);
/// Legend and drawing as an HTML element.
[[nodiscard]] std::string figure(const Chart& chart, const Drawing& drawing);
/// A table as HTML, and as Markdown (GitHub's).
[[nodiscard]] std::string html_table(const Grid& grid);
[[nodiscard]] std::string markdown_table(const Grid& grid);

/// A file that lies beside a page.
struct PageFile {
  std::string name;
  std::string content;
};
/// All of a page. `files`: for each chart NAME.csv (columns series, x, y, y_low, y_high as its labels name
/// them) and NAME.svg (by itself, light and dark), for each table NAME.csv.
struct WrittenPage {
  std::string html;
  std::string markdown;
  std::vector<PageFile> files;
};
/// Draws and writes a page; cli/save_page.h puts it on disk. `folder`: where the Markdown's pictures and the
/// files will lie, relative to it. Throws as draw() does.
[[nodiscard]] WrittenPage write_page(const Page& page, const std::string& folder,
                                     const std::string& gnuplot = "gnuplot");

}  // namespace sluice::study
