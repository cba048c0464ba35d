#include "trainer/study/report_study.h"

#include <fmt/format.h>

#include <algorithm>

#include "trainer/study/numbers.h"
#include "trainer/study/report_loss.h"
#include "trainer/study/report_provenance.h"
#include "trainer/study/report_speed.h"
#include "trainer/train/errors.h"

namespace sluice::study {

std::string study_subtitle(const StudyFiles& study) {
  std::string text = (study.kind == "speed" ? "Speed" : "Loss") + std::string(" study of Sluice");
  text += " · " + plural(study.runs.size(), "run");
  std::string states;
  for (const char* status : {"done", "other-version", "running", "failed", "waiting"}) {
    const auto count = std::ranges::count(study.runs, status, &StudyEntry::status);
    if (count > 0) states += fmt::format("{}{} {}", states.empty() ? "" : ", ", count, status);
  }
  return states.empty() ? text : text + " · " + states;
}

Page study_page(const std::filesystem::path& directory, const std::vector<Overlay>& overlays) {
  const StudyFiles study = read_study(directory);
  if (study.kind != "loss" && !overlays.empty())
    throw train::InputError(
        fmt::format("--overlay: {} is a study of {}: it has no losses to draw a curve with",
                    directory.string(), study.kind));
  Page page{.title = study.name, .subtitle = study_subtitle(study)};
  if (study.speed) {
    const auto cells = speed_cells(*study.speed);
    const auto curves = speed_curves(cells);
    if (!curves.empty()) page.add(speed_key_numbers(curves));
    page.append(speed_parts(curves));
    page.append(missing_cells(cells));
  }
  if (study.kind == "loss") {
    page.add(loss_key_numbers(study));
    page.append(loss_parts(study, overlays));
  }
  page.append(provenance_parts(study));
  return page;
}

}  // namespace sluice::study
