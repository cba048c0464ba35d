#pragma once

#include <filesystem>

#include "trainer/study/page.h"

namespace sluice::cli {

/// Puts a page on disk: FILE.html, FILE.md beside it, and its charts and tables (SVG, CSV) into the folder
/// FILE, the name without its ending. Makes the folders that are missing; what an earlier page left there and
/// this one does not have stays.
void save_page(const study::Page& page, const std::filesystem::path& html);

}  // namespace sluice::cli
