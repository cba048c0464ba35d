#include "trainer/study/parting.h"

#include <cmath>
#include <map>

namespace sluice::study {

Parting parting_of(const Metrics& first, const Metrics& second) {
  std::map<std::int64_t, const TrainRecord*> others;
  for (const auto& record : second.train) others[record.step] = &record;
  Parting parting;
  for (const auto& record : first.train) {
    const auto found = others.find(record.step);
    if (found == others.end()) continue;
    const TrainRecord& other = *found->second;
    ++parting.compared;
    parting.same_tokens = parting.same_tokens && record.tokens == other.tokens;
    const Parting::Step step{.step = record.step, .first = record.loss, .second = other.loss};
    parting.last = step;
    const bool both_lost = std::isnan(record.loss) && std::isnan(other.loss);
    if (record.loss == other.loss || both_lost) continue;
    if (!parting.any) parting.any = step;
    const double size = std::abs(step.difference());
    if (!parting.visible && !(size <= kVisible * std::abs(record.loss))) parting.visible = step;
    if (!parting.largest || size > std::abs(parting.largest->difference())) parting.largest = step;
  }
  return parting;
}

}  // namespace sluice::study
