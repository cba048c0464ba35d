#pragma once

#include <string>
#include <vector>

#include "trainer/study/page.h"

namespace sluice::cli {

/// Headings, paragraphs and tables of a page for a terminal, columns aligned; its other parts are left
/// out.
[[nodiscard]] std::string page_text(const std::vector<study::Part>& parts);

}  // namespace sluice::cli
