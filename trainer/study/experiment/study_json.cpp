#include "trainer/study/experiment/study_json.h"

#include <cmath>
#include <nlohmann/json.hpp>

namespace sluice::study {
namespace {

using Json = nlohmann::ordered_json;

Json run_json(const StudyRun& one) {
  const auto& run = one.run;
  Json values = Json::object();
  for (const auto& [key, value] : run.values) values[key] = value;
  Json out = {{"id", run.id},
              {"name", run.title()},
              {"family", run.family},
              {"model", run.model},
              {"role", role_name(run.role)},
              {"parent", run.parent},
              {"directory", one.directory},
              {"status", status_name(one.state.status)},
              {"reason", one.state.reason},
              {"version", one.state.version},
              {"ranks", run.ranks},
              {"params", run.counts.params}};
  if (run.role == Role::kSpeed) {
    out["mode"] = run.mode;
  } else {
    out["seed"] = run.seed;
    out["steps"] = run.steps;
    out["tokens"] = run.tokens();
    out["loss"] = std::isfinite(one.state.loss) ? Json(one.state.loss) : Json(nullptr);
  }
  out["values"] = values;
  return out;
}

}  // namespace

std::string study_json(const StudySpec& spec, const std::vector<StudyRun>& runs, std::int64_t undecided,
                       const std::string& version) {
  Json list = Json::array();
  for (const auto& run : runs) list.push_back(run_json(run));
  const Json out = {{"format", "sluice-study"},
                    {"version", kStudyVersion},
                    {"name", spec.name},
                    {"kind", spec.kind == StudyKind::kLoss ? "loss" : "speed"},
                    {"program", version},
                    {"undecided", undecided},
                    {"runs", list}};
  return out.dump(1, ' ', false, Json::error_handler_t::replace) + "\n";
}

}  // namespace sluice::study
