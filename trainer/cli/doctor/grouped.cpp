#include "trainer/cli/doctor/grouped.h"

#include <fmt/format.h>

#include <algorithm>

namespace sluice::cli::doctor {

void Grouped::add(const Finding& finding, const std::string& where) {
  const auto same = std::ranges::find_if(groups_, [&](const auto& group) {
    return group.first.value == finding.value && group.first.what == finding.what;
  });
  if (same != groups_.end()) {
    same->second.push_back(where);
  } else {
    groups_.push_back({finding, {where}});
  }
}

Findings Grouped::or_good(Finding good) const {
  constexpr std::size_t kMostPlaces = 8;
  if (groups_.empty()) return {std::move(good)};
  Findings findings;
  for (const auto& [finding, places] : groups_) {
    const std::size_t named = std::min(places.size(), kMostPlaces);
    std::string text;
    for (std::size_t k = 0; k < named; ++k) text += (k == 0 ? "" : ", ") + places[k];
    if (named < places.size()) text += fmt::format(" and {} more", places.size() - named);
    findings.push_back(finding);
    findings.back().value = text + ": " + finding.value;
  }
  return findings;
}

}  // namespace sluice::cli::doctor
