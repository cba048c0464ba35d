#include "trainer/cli/option_checks.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <filesystem>

#include "trainer/cli/option_table.h"
#include "trainer/optim/schedule.h"

namespace sluice::cli {
namespace {

using Faults = std::vector<CombinationFault>;

constexpr double kMostTokens = 9e18;  // counts are int64

void check_given(const train::RunOptions& o, Faults& faults) {
  if (o.run.dir.empty()) {
    faults.push_back({{"run.dir"}, "run.dir: must be given (the directory that the run writes into)"});
  }
  if (o.data.corpus.empty()) {
    faults.push_back(
        {{"data.corpus"}, "data.corpus: must be given (a directory that `sluice prepare` wrote)"});
  }
  if (!o.run.dir.empty() && std::filesystem::path(o.run.dir).lexically_normal() ==
                                std::filesystem::path(o.data.corpus).lexically_normal()) {
    faults.push_back(
        {{"run.dir", "data.corpus"},
         fmt::format("run.dir and data.corpus are both {}: a run needs a directory of its own", o.run.dir)});
  }
  if (o.train.steps == 0 && o.train.tokens == 0) {
    faults.push_back(
        {{"train.steps", "train.tokens"}, "train.steps or train.tokens: one must be given, and above 0"});
  }
}

/// What only one family has, set for the other.
void check_family_keys(const train::RunOptions& o, Faults& faults) {
  struct FamilyKey {
    const char* key;
    const char* kind;
  };
  static constexpr FamilyKey kKeys[] = {{"model.heads", "transformer"},
                                        {"model.norm", "transformer"},
                                        {"model.mlp", "transformer"},
                                        {"model.bias", "transformer"},
                                        {"model.rotary_base", "transformer"},
                                        {"model.gate", "gmlp"},
                                        {"model.spatial", "gmlp"},
                                        {"model.spatial_heads", "gmlp"},
                                        {"model.gate_activation", "gmlp"},
                                        {"model.gate_norm", "gmlp"},
                                        {"model.tiny_attention", "gmlp"},
                                        {"model.tiny_attention_qkv_bias", "gmlp"},
                                        {"model.token_shift", "gmlp"},
                                        {"model.stochastic_depth", "gmlp"},
                                        {"model.spatial_init", "gmlp"},
                                        {"model.spatial_init_per_position", "gmlp"}};
  for (const auto& [key, kind] : kKeys) {
    if (o.model.kind == kind) continue;
    const auto row = std::find_if(option_table().begin(), option_table().end(),
                                  [key = key](const OptionRow& one) { return one.key == key; });
    if (row->get(o) == row->default_text) continue;
    faults.push_back({{key, "model.kind"},
                      fmt::format("{} = {}: is of model.kind = {} alone, a {} has nothing of the kind", key,
                                  row->get(o), kind, o.model.kind)});
  }
}

void check_gmlp(const model::ModelOptions& m, Faults& faults) {
  if (m.gate == "split" && m.d_ffn % 2 != 0) {
    faults.push_back({{"model.d_ffn", "model.gate", "model.kind"},
                      fmt::format("model.d_ffn = {}: must be even, the gate takes one half of it", m.d_ffn)});
  } else if (const std::int64_t channels = model::gate_channels(m); channels % m.spatial_heads != 0) {
    faults.push_back(
        {{"model.spatial_heads", "model.d_ffn", "model.gate", "model.kind"},
         fmt::format("model.spatial_heads = {}: must divide the gate's {} channels (model.d_ffn = {}, "
                     "model.gate = {}), each head takes an equal part",
                     m.spatial_heads, channels, m.d_ffn, m.gate)});
  }
  if (m.tiny_attention == 0 && !m.tiny_attention_qkv_bias) {
    faults.push_back({{"model.tiny_attention_qkv_bias", "model.tiny_attention", "model.kind"},
                      "model.tiny_attention_qkv_bias = false: model.tiny_attention = 0 has no queries, keys "
                      "and values"});
  }
  if (m.token_shift >= m.seq_len) {
    faults.push_back(
        {{"model.token_shift", "model.seq_len", "model.kind"},
         fmt::format("model.token_shift = {}: must be below model.seq_len = {}, else it moves in "
                     "zeros alone",
                     m.token_shift, m.seq_len)});
  } else if (const std::int64_t groups = m.causal ? m.token_shift + 1 : 2 * m.token_shift + 1;
             groups > m.d_model) {
    faults.push_back({{"model.token_shift", "model.d_model", "model.causal", "model.kind"},
                      fmt::format("model.token_shift = {}: makes {} groups of model.d_model = {} channels",
                                  m.token_shift, groups, m.d_model)});
  }
  if (m.positions == "learned" || m.positions == "rotary") {
    faults.push_back({{"model.positions", "model.kind"},
                      fmt::format("model.positions = {}: is of model.kind = transformer; a gmlp learns of "
                                  "positions by its spatial weights, or takes sinusoidal",
                                  m.positions)});
  }
}

void check_transformer(const train::RunOptions& o, Faults& faults) {
  const auto& m = o.model;
  if (m.d_model % m.heads != 0) {
    faults.push_back(
        {{"model.heads", "model.d_model", "model.kind"},
         fmt::format("model.heads = {}: must divide model.d_model = {}, each head takes an equal part",
                     m.heads, m.d_model)});
  } else if (m.positions == "rotary" && m.d_model / m.heads % 2 != 0) {
    faults.push_back(
        {{"model.positions", "model.heads", "model.d_model", "model.kind"},
         fmt::format("model.positions = rotary: turns pairs of channels, and a head has {} (model.d_model "
                     "= {} / model.heads = {})",
                     m.d_model / m.heads, m.d_model, m.heads)});
  }
  if (m.mlp == "swiglu" && m.gelu != model::ModelOptions{}.gelu) {
    faults.push_back({{"model.gelu", "model.mlp"},
                      fmt::format("model.gelu = {}: model.mlp = swiglu has no GELU", m.gelu)});
  }
  if (m.positions != "rotary" && m.rotary_base != model::ModelOptions{}.rotary_base) {
    faults.push_back({{"model.rotary_base", "model.positions"},
                      fmt::format("model.rotary_base = {}: model.positions = {} turns nothing", m.rotary_base,
                                  m.positions)});
  }
  if (o.train.recompute == "gate") {
    faults.push_back({{"train.recompute", "model.kind"},
                      "train.recompute = gate: a transformer has no gate; allowed are none and block"});
  }
}

void check_model(const train::RunOptions& o, Faults& faults) {
  const auto& m = o.model;
  check_family_keys(o, faults);
  switch (model::family_of(m)) {
    case model::Family::kGmlp:
      check_gmlp(m, faults);
      break;
    case model::Family::kTransformer:
      check_transformer(o, faults);
      break;
  }
  if (m.positions == "sinusoidal" && m.d_model % 2 != 0) {
    faults.push_back(
        {{"model.positions", "model.d_model"},
         fmt::format("model.positions = sinusoidal needs an even model.d_model, which is {}", m.d_model)});
  }
}

void check_objective(const train::RunOptions& o, Faults& faults) {
  const auto& t = o.train;
  if (t.objective == "causal" && !o.model.causal) {
    faults.push_back({{"model.causal", "train.objective"},
                      "model.causal = false: must be true under train.objective = causal, which predicts the "
                      "next token: a position would see its own target (train.objective = mlm takes it)"});
  }
  if (t.objective == "mlm" && o.model.causal) {
    faults.push_back(
        {{"model.causal", "train.objective"},
         "model.causal = true: must be false under train.objective = mlm, which predicts a masked "
         "token from both sides"});
  }
  const train::TrainOptions none;
  if (t.objective == "causal" &&
      (t.mask_rate != none.mask_rate || t.mask_token_share != none.mask_token_share ||
       t.mask_random_share != none.mask_random_share)) {
    faults.push_back(
        {{"train.mask_rate", "train.mask_token_share", "train.mask_random_share", "train.objective"},
         "train.mask_rate, train.mask_token_share, train.mask_random_share: are of train.objective = mlm "
         "alone, causal masks nothing"});
  }
  if (t.mask_token_share + t.mask_random_share > 1) {
    faults.push_back(
        {{"train.mask_token_share", "train.mask_random_share"},
         fmt::format("train.mask_token_share = {} and train.mask_random_share = {}: are shares of "
                     "the same tokens, at most 1 together",
                     t.mask_token_share, t.mask_random_share)});
  }
}

void check_steps(const train::RunOptions& o, Faults& faults) {
  const auto& t = o.train;
  if (t.micro_batch > t.global_batch) {
    faults.push_back({{"train.micro_batch", "train.global_batch"},
                      fmt::format("train.micro_batch = {}: must be at most train.global_batch = {}",
                                  t.micro_batch, t.global_batch)});
  }
  const double tokens = static_cast<double>(t.steps) * static_cast<double>(t.global_batch) *
                        static_cast<double>(o.model.seq_len);
  if (tokens > kMostTokens) {
    faults.push_back(
        {{"train.steps", "train.global_batch", "model.seq_len"},
         fmt::format("train.steps = {} x train.global_batch = {} x model.seq_len = {} is {} tokens: at most "
                     "{} can be counted",
                     t.steps, t.global_batch, o.model.seq_len, tokens, kMostTokens)});
  }
  if (t.ledger_detail == "full" && t.ledger.empty()) {
    faults.push_back({{"train.ledger_detail", "train.ledger"},
                      "train.ledger_detail = full: needs train.ledger, the file to write to"});
  }
  const auto& c = o.checkpoint;
  if (c.keep_every > 0 && (c.every == 0 || c.keep_every % c.every != 0)) {
    faults.push_back({{"checkpoint.keep_every", "checkpoint.every"},
                      fmt::format("checkpoint.keep_every = {}: must be a multiple of checkpoint.every = {}{}",
                                  c.keep_every, c.every, c.every == 0 ? " (never)" : "")});
  }
}

void check_schedule(const train::RunOptions& o, Faults& faults) {
  const auto& s = o.optim;
  const auto steps = o.train.steps;
  if (steps == 0) return;  // said already
  // noam peaks at the end of warm-up and plans no end: a short run may stay below the peak.
  if (s.schedule == "noam") return;
  const auto decaying = std::llround(s.decay_fraction * static_cast<double>(steps));
  if (s.warmup_steps > steps) {
    faults.push_back(
        {{"optim.warmup_steps", "train.steps", "train.tokens"},
         fmt::format("optim.warmup_steps = {}: must be at most train.steps = {}", s.warmup_steps, steps)});
  } else if (s.schedule == "wsd" && s.warmup_steps > steps - decaying) {
    faults.push_back({{"optim.warmup_steps", "optim.decay_fraction", "train.steps", "train.tokens"},
                      fmt::format("optim.warmup_steps = {}: must be at most {}, since optim.decay_fraction = "
                                  "{} of train.steps = {} "
                                  "are the decay of wsd",
                                  s.warmup_steps, steps - decaying, s.decay_fraction, steps)});
  }
}

std::string refuse_steps(const train::RunOptions& before, const train::RunOptions& now, std::int64_t step) {
  const auto old_steps = before.train.steps;
  const auto new_steps = now.train.steps;
  const auto change = fmt::format("train.steps: {} -> {}", old_steps, new_steps);
  if (new_steps < step) return fmt::format("{}: the run has done {} steps already", change, step);
  const auto& schedule = before.optim.schedule;
  if (schedule == "constant" || schedule == "noam") return "";
  const auto branch = fmt::format("start a new run with --run.dir=NEW_DIR --train.steps={}", new_steps);
  if (schedule == "wsd") {
    const auto first =
        std::min(optim::decay_begin(before.optim, old_steps), optim::decay_begin(now.optim, new_steps));
    if (step <= first) return "";
    return fmt::format(
        "{}: under optim.schedule = wsd it may change until the decay begins, at step {}, and the run "
        "has done {}; {}, or resume a copy of the run that has a checkpoint of step {} or earlier only",
        change, first, step, branch, first);
  }
  return fmt::format(
      "{}: under optim.schedule = {} the learning rates of the {} steps already taken were planned for {}; "
      "{} (optim.schedule = constant, noam or wsd can be prolonged)",
      change, schedule, step, old_steps, branch);
}

}  // namespace

std::int64_t steps_for_tokens(const train::RunOptions& options) {
  const auto step_tokens = options.train.global_batch * options.model.seq_len;
  return options.train.tokens / step_tokens + (options.train.tokens % step_tokens == 0 ? 0 : 1);
}

std::vector<CombinationFault> check_combinations(const train::RunOptions& options) {
  Faults faults;
  check_given(options, faults);
  check_model(options, faults);
  check_objective(options, faults);
  check_steps(options, faults);
  check_schedule(options, faults);
  return faults;
}

ResumeDifferences compare_for_resume(const train::RunOptions& before, const train::RunOptions& now,
                                     std::int64_t step) {
  ResumeDifferences differences;
  for (const auto& row : option_table()) {
    const auto old_value = row.get(before);
    const auto new_value = row.get(now);
    if (old_value == new_value || row.on_resume == OnResume::kFree) continue;
    const auto change = fmt::format("{}: {} -> {}", row.key, old_value, new_value);
    if (row.on_resume == OnResume::kWarn) {
      differences.warnings.push_back(fmt::format("{} from step {} on", change, step));
    } else if (row.on_resume == OnResume::kRefuse) {
      differences.refusals.push_back(change +
                                     ": cannot change when a run resumes; start a new run with "
                                     "--run.dir=NEW_DIR, or put this one aside with --run.new");
    } else if (const auto fault = refuse_steps(before, now, step); !fault.empty()) {
      differences.refusals.push_back(fault);
    }
  }
  return differences;
}

}  // namespace sluice::cli
