#include "trainer/cli/plan_search.h"

#include <algorithm>
#include <tuple>

#include "trainer/cli/plan_workload.h"

namespace sluice::cli {
namespace {

std::vector<std::int64_t> powers_of_two(std::int64_t most) {
  std::vector<std::int64_t> all;
  for (std::int64_t one = 1; one <= most; one *= 2) all.push_back(one);
  return all;
}

PlanChoices completed(PlanChoices choices, const train::RunOptions& options, std::int64_t ranks) {
  if (choices.sp.empty()) {
    for (const std::int64_t sp : powers_of_two(std::min(ranks, options.model.seq_len)))
      if (ranks % sp == 0) choices.sp.push_back(sp);
  }
  if (choices.zero.empty())
    choices.zero = ranks > 1 ? std::vector<std::int64_t>{0, 1} : std::vector<std::int64_t>{0};
  if (choices.recompute.empty()) {
    choices.recompute = {"none", "block"};
    if (options.model.kind == "gmlp") choices.recompute.insert(choices.recompute.begin() + 1, "gate");
  }
  return choices;
}

std::vector<std::int64_t> micro_batches(const train::RunOptions& options, std::int64_t ranks,
                                        std::int64_t sp) {
  const std::int64_t rows = std::max<std::int64_t>(1, ranks / sp);
  const std::int64_t of_rank = (options.train.global_batch + rows - 1) / rows;
  auto all = powers_of_two(of_rank);
  if (all.back() != of_rank) all.push_back(of_rank);
  return all;
}

PlanCandidate judge(const train::RunOptions& options, std::int64_t vocabulary_size, std::int64_t ranks,
                    const study::plan::Cluster& cluster) {
  PlanCandidate candidate{.layout = {.ranks = ranks,
                                     .sp = options.parallel.sp,
                                     .zero = options.parallel.zero,
                                     .recompute = options.train.recompute,
                                     .micro_batch = options.train.micro_batch},
                          .step = {},
                          .refusal = {}};
  if (const auto refusal = plan_refusal(options, vocabulary_size, ranks, cluster)) {
    candidate.refusal = *refusal;
    return candidate;
  }
  const auto work = plan_workload(options, vocabulary_size, ranks, cluster);
  candidate.layout = work.layout;
  candidate.step = study::plan::predict_step(work, cluster);
  return candidate;
}

bool is_better(const PlanCandidate& a, const PlanCandidate& b) {
  if (!a.step || !b.step) return a.step.has_value() && !b.step;
  return std::tie(a.step->step_s, a.step->memory_bytes) < std::tie(b.step->step_s, b.step->memory_bytes);
}

}  // namespace

std::vector<PlanCandidate> search_plans(const train::RunOptions& options, std::int64_t vocabulary_size,
                                        std::int64_t ranks, const study::plan::Cluster& cluster,
                                        const PlanChoices& choices) {
  const PlanChoices all = completed(choices, options, ranks);
  std::vector<PlanCandidate> candidates;
  train::RunOptions one = options;
  for (const std::int64_t sp : all.sp) {
    one.parallel.sp = sp;
    const auto micro = all.micro_batch.empty() ? micro_batches(options, ranks, sp) : all.micro_batch;
    for (const std::int64_t zero : all.zero) {
      one.parallel.zero = zero;
      for (const std::string& recompute : all.recompute) {
        one.train.recompute = recompute;
        for (const std::int64_t batch : micro) {
          one.train.micro_batch = batch;
          candidates.push_back(judge(one, vocabulary_size, ranks, cluster));
        }
      }
    }
  }
  std::ranges::stable_sort(candidates, is_better);
  return candidates;
}

}  // namespace sluice::cli
