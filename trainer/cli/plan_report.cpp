#include "trainer/cli/plan_report.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>

namespace sluice::cli {
namespace {

using Json = nlohmann::ordered_json;
using study::plan::Bill;
using study::plan::Layout;
using study::plan::StepPrediction;

constexpr double kGiB = 1024.0 * 1024.0 * 1024.0;

std::string layout_text(const Layout& layout) {
  return fmt::format("dp {} x sp {}, zero {}, recompute {}, micro-batch {}", layout.dp(), layout.sp,
                     layout.zero, layout.recompute, layout.micro_batch);
}

std::string bill_text(const PlanReport& report, const StepPrediction& step, std::int64_t ranks) {
  const Bill bill = study::plan::bill_for(report.tokens, step, ranks, report.cluster);
  std::string text =
      fmt::format("  {:.3g} tokens in {:.3g} h: {:.4g} GPU hours", report.tokens, bill.hours, bill.gpu_hours);
  if (bill.energy_kwh > 0) text += fmt::format(", {:.3g} kWh", bill.energy_kwh);
  if (bill.money > 0) text += fmt::format(", {:.2f} {}", bill.money, report.cluster.cost.currency);
  return text + "\n";
}

std::string best_text(const PlanReport& report, const PlanCandidate& best) {
  const StepPrediction& step = *best.step;
  const auto ms = [](double seconds) { return 1e3 * seconds; };
  std::string text = fmt::format("  {} x {}{}\n", layout_text(best.layout), best.layout.micro_batches,
                                 step.extrapolated ? "   (extrapolated)" : "");
  text += fmt::format("  step {:.2f} ms, {:.0f} tokens/s, efficiency {:.1f} %", ms(step.step_s),
                      step.tokens_per_s, 100 * step.efficiency);
  if (step.mfu > 0) text += fmt::format(", MFU {:.1f} %", 100 * step.mfu);
  text += fmt::format(", memory {:.2f} of {:.2f} GiB\n", step.memory_bytes / kGiB,
                      report.cluster.gpu.memory_bytes / kGiB);
  text += fmt::format(
      "  forward {:.2f} ms, backward {:.2f}, exposed exchange {:.2f} (slowest rank {:.2f}), "
      "update {:.2f}, other {:.2f}\n",
      ms(step.forward_s), ms(step.backward_s), ms(step.comm_exposed_s), ms(step.straggler_s),
      ms(step.optimizer_s), ms(step.other_s));
  return text + bill_text(report, step, best.layout.ranks);
}

/// Each reason once, without its numbers' digits, with an example and how many it stopped.
std::string refusal_text(const std::vector<PlanCandidate>& candidates) {
  struct Reason {
    const PlanCandidate* example = nullptr;
    std::int64_t count = 0;
  };
  std::map<std::string, Reason> reasons;
  for (const PlanCandidate& one : candidates) {
    if (one.step) continue;
    std::string kind = one.refusal;
    std::erase_if(kind, [](char letter) { return (letter >= '0' && letter <= '9') || letter == '.'; });
    Reason& reason = reasons[kind];
    if (reason.example == nullptr) reason.example = &one;
    ++reason.count;
  }
  std::string text;
  for (const auto& [kind, reason] : reasons)
    text += fmt::format("  {} cannot be: {} ({})\n", reason.count, reason.example->refusal,
                        layout_text(reason.example->layout));
  return text;
}

std::string plan_text(const PlanReport& report, const RankPlan& plan) {
  std::string text = fmt::format("{} rank{}, {} sequences a step\n", plan.ranks, plan.ranks == 1 ? "" : "s",
                                 plan.global_batch);
  const PlanCandidate& best = plan.candidates.front();
  if (best.step) {
    text += best_text(report, best);
    for (std::size_t i = 1; i < plan.candidates.size() && static_cast<std::int64_t>(i) < report.shown; ++i) {
      const PlanCandidate& next = plan.candidates[i];
      if (!next.step) break;
      text += fmt::format("  {:.1f} % slower: {}, {:.2f} GiB\n",
                          100 * (next.step->step_s / best.step->step_s - 1), layout_text(next.layout),
                          next.step->memory_bytes / kGiB);
    }
  } else {
    text += "  nothing fits\n";
  }
  return text + refusal_text(plan.candidates);
}

Json candidate_json(const PlanReport& report, const PlanCandidate& one) {
  Json out = {{"dp", one.layout.dp()},
              {"sp", one.layout.sp},
              {"zero", one.layout.zero},
              {"recompute", one.layout.recompute},
              {"micro_batch", one.layout.micro_batch}};
  if (!one.step) {
    out["reason"] = one.refusal;
    return out;
  }
  const StepPrediction& s = *one.step;
  const Bill bill = study::plan::bill_for(report.tokens, s, one.layout.ranks, report.cluster);
  out["micro_batches"] = one.layout.micro_batches;
  out["step_s"] = s.step_s;
  out["causes_s"] = {{"forward", s.forward_s},
                     {"backward", s.backward_s},
                     {"comm_exposed", s.comm_exposed_s},
                     {"optimizer", s.optimizer_s},
                     {"other", s.other_s}};
  out["of_them_s"] = {{"slowest_rank", s.straggler_s}, {"sequence_exchange", s.sequence_s}};
  out["reduce_s"] = s.reduce_s;
  out["tokens_per_s"] = s.tokens_per_s;
  out["efficiency"] = s.efficiency;
  out["mfu"] = s.mfu > 0 ? Json(s.mfu) : Json(nullptr);
  out["memory_bytes"] = s.memory_bytes;
  out["extrapolated"] = s.extrapolated;
  const auto known = [](double value) { return value > 0 ? Json(value) : Json(nullptr); };
  out["cost"] = {{"hours", bill.hours},
                 {"gpu_hours", bill.gpu_hours},
                 {"energy_kwh", known(bill.energy_kwh)},
                 {"money", known(bill.money)}};
  return out;
}

}  // namespace

std::string plan_lines(const PlanReport& report) {
  std::string text = fmt::format("{} on {} ({}, {})\n", report.model,
                                 report.cluster.gpu.name.empty() ? "a device" : report.cluster.gpu.name,
                                 report.cluster.gpu.kind, report.cluster.gpu.precision);
  for (const RankPlan& plan : report.plans) text += plan_text(report, plan);
  const bool far = std::ranges::any_of(report.plans, [&](const RankPlan& plan) {
    return plan.ranks > report.cluster.measured_ranks && plan.candidates.front().step;
  });
  if (far)
    text += fmt::format("extrapolated: {} rank{} measured (docs/plan.md)\n", report.cluster.measured_ranks,
                        report.cluster.measured_ranks == 1 ? " was" : "s were");
  return text;
}

std::string plan_json(const PlanReport& report) {
  Json out = {{"plan", report.model},
              {"device", report.cluster.gpu.name},
              {"precision", report.cluster.gpu.precision},
              {"vocabulary_size", report.vocabulary_size},
              {"measured_ranks", report.cluster.measured_ranks},
              {"tokens", report.tokens},
              {"currency", report.cluster.cost.currency},
              {"ranks", Json::array()}};
  for (const RankPlan& plan : report.plans) {
    Json candidates = Json::array();
    for (const PlanCandidate& one : plan.candidates) candidates.push_back(candidate_json(report, one));
    out["ranks"].push_back(
        {{"ranks", plan.ranks}, {"global_batch", plan.global_batch}, {"candidates", candidates}});
  }
  return out.dump(-1, ' ', false, Json::error_handler_t::replace);
}

}  // namespace sluice::cli
