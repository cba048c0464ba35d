#pragma once

#include <string>
#include <vector>

#include "trainer/study/page.h"

// What the three writers of a page share.

namespace sluice::study {

/// The series that a legend names: one for each label that is not empty; none where the chart has one series
/// alone.
[[nodiscard]] std::vector<const Series*> legend_entries(const Chart& chart);

/// The figures that can be drawn, in the page's order.
[[nodiscard]] std::vector<const Figure*> figures_of(const Page& page);

/// The body of the HTML document. `drawings`: of figures_of(page).
[[nodiscard]] std::string page_body(const Page& page, const std::vector<Drawing>& drawings);

/// `folder`: of the pictures, as a relative address.
[[nodiscard]] std::string page_markdown(const Page& page, const std::string& folder);

/// A drawing as a file of its own, with its legend in it: light or dark as the reader's screen is.
[[nodiscard]] std::string standalone_svg(const Chart& chart, const Drawing& drawing);

/// The points of a chart: columns series, x, y, y_low, y_high as the chart's labels name them; points without
/// a number keep their row, with an empty cell. The last two where some series has them.
[[nodiscard]] std::string chart_csv(const Chart& chart);

}  // namespace sluice::study
