#include "trainer/cli/save_page.h"

#include <fmt/format.h>

#include "trainer/train/errors.h"
#include "trainer/train/files.h"

namespace sluice::cli {

void save_page(const study::Page& page, const std::filesystem::path& html) {
  const auto extension = html.extension();
  if (extension != ".html" && extension != ".htm")
    throw train::InputError(
        fmt::format("--out {}: must end in .html: the Markdown and the folder of its data are named after it",
                    html.string()));
  const std::filesystem::path folder = std::filesystem::path(html).replace_extension();
  const study::WrittenPage written = study::write_page(page, folder.filename().string());
  std::filesystem::create_directories(folder);
  for (const auto& file : written.files) train::replace_file(folder / file.name, file.content);
  train::replace_file(std::filesystem::path(html).replace_extension(".md"), written.markdown);
  train::replace_file(html, written.html);
}

}  // namespace sluice::cli
