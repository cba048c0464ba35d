#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <set>

#include "tests/unit/cli/faults.h"
#include "trainer/cli/option_table.h"

namespace sluice::cli {
namespace {

using testing::HasSubstr;

struct Anything {
  template <class T>
  operator T() const;
};

/// How many members an aggregate has: as many as it can be made of.
template <class Aggregate, class... Values>
consteval std::size_t members() {
  if constexpr (requires { Aggregate{Values{}..., Anything{}}; }) {
    return members<Aggregate, Values..., Anything>();
  } else {
    return sizeof...(Values);
  }
}

train::RunOptions random_options() {
  train::RunOptions o;
  const auto whole = [](std::int64_t low, std::int64_t high) {
    return *rc::gen::inRange<std::int64_t>(low, high + 1);
  };
  const auto positive = [] {
    const auto bits = *rc::gen::arbitrary<double>();
    return std::isfinite(bits) && bits != 0 ? std::abs(bits) : std::numeric_limits<double>::denorm_min();
  };
  const auto share = [] { return *rc::gen::inRange(0, 1'000'003) / 1'000'003.0; };
  const auto path = [] {
    std::string text = "p";
    text += *rc::gen::container<std::string>(rc::gen::elementOf(std::string("abc/._-= [];\"'\xc3\xa9")));
    return text += "q";
  };
  o.run = {path(), *rc::gen::arbitrary<std::uint64_t>(), *rc::gen::arbitrary<bool>(),
           *rc::gen::arbitrary<bool>() ? path() : ""};
  o.data = {path() + "/c", *rc::gen::element<std::string>("sequential", "random-offset"),
            *rc::gen::arbitrary<std::uint64_t>(), whole(1, 256), path() + "/s"};
  o.model.layers = whole(1, 10000);
  o.model.d_model = 2 * whole(1, 5000);
  o.model.d_ffn = 2 * whole(1, 5000);
  o.model.seq_len = whole(1, 10000);
  o.model.tied = *rc::gen::arbitrary<bool>();
  o.model.positions = *rc::gen::element<std::string>("none", "sinusoidal");
  o.model.scale_embedding = *rc::gen::arbitrary<bool>();
  o.model.head_bias = *rc::gen::arbitrary<bool>();
  o.model.identical_layers = *rc::gen::arbitrary<bool>();
  o.model.init = *rc::gen::element<std::string>("normal", "fan_in");
  if (o.model.init == "normal") o.model.init_std = positive();
  o.model.embedding_std = positive();
  o.model.norm_eps = positive();
  o.model.seed = *rc::gen::arbitrary<std::uint64_t>();
  o.model.kind = *rc::gen::element<std::string>("gmlp", "transformer", "mixer");
  if (o.model.kind == "gmlp") {
    o.model.gate = *rc::gen::element<std::string>("split", "multiplicative", "additive", "linear");
    o.model.spatial = *rc::gen::element<std::string>("free", "toeplitz");
    o.model.spatial_heads = *rc::gen::elementOf(std::vector<std::int64_t>{1, o.model.d_ffn / 2});
    o.model.gate_activation = *rc::gen::element<std::string>("none", "tanh", "sigmoid", "gelu", "relu");
    o.model.gate_norm = *rc::gen::arbitrary<bool>();
    o.model.tiny_attention = whole(0, 128);
    o.model.tiny_attention_qkv_bias = o.model.tiny_attention == 0 || *rc::gen::arbitrary<bool>();
    o.model.token_shift = whole(0, std::min(o.model.d_model, o.model.seq_len) - 1);
    o.model.stochastic_depth = share();
    o.model.gelu = *rc::gen::element<std::string>("exact", "tanh");
    o.model.dropout = share();
    o.model.spatial_init = positive();
    o.model.spatial_init_per_position = *rc::gen::arbitrary<bool>();
  } else if (o.model.kind == "mixer") {
    o.model.causal = false;
    o.model.d_spatial = whole(1, 1000);
    o.model.gelu = *rc::gen::element<std::string>("exact", "tanh");
    o.model.dropout = share();
    o.model.positions = *rc::gen::element<std::string>("none", "sinusoidal", "learned");
  } else {
    o.model.causal = *rc::gen::arbitrary<bool>();
    o.model.heads = *rc::gen::elementOf(std::vector<std::int64_t>{1, o.model.d_model / 2});
    o.model.norm = *rc::gen::element<std::string>("layer", "rms");
    o.model.mlp = *rc::gen::element<std::string>("gelu", "swiglu");
    if (o.model.mlp == "gelu") o.model.gelu = *rc::gen::element<std::string>("exact", "tanh");
    o.model.dropout = share();
    o.model.bias = *rc::gen::arbitrary<bool>();
    o.model.positions = *rc::gen::element<std::string>("none", "sinusoidal", "learned", "rotary", "relative",
                                                       "learned+relative");
    if (o.model.positions.ends_with("relative"))
      o.model.attention = *rc::gen::element<std::string>("full", "positions_only");
    if (o.model.positions == "rotary") o.model.rotary_base = positive();
  }
  if (!o.model.causal) {
    o.train.objective = "mlm";
    o.train.mask_rate = share() / 2 + 0.1;
    o.train.mask_token_share = share();
    o.train.mask_random_share = (1 - o.train.mask_token_share) * share();
  }
  o.train.global_batch = whole(1, 1000);
  o.train.micro_batch = whole(1, o.train.global_batch);
  o.train.steps = whole(1, 1'000'000);
  if (*rc::gen::arbitrary<bool>()) {  // tokens that are just this number of steps
    o.train.tokens = o.train.steps * o.train.global_batch * o.model.seq_len - whole(0, o.model.seq_len - 1);
  }
  o.train.device = *rc::gen::element<std::string>("auto", "cpu", "cuda");
  o.train.precision = *rc::gen::element<std::string>("fp32", "tf32", "bf16", "fp64");
  o.train.residual_dtype =
      o.train.precision == "bf16" ? *rc::gen::element<std::string>("fp32", "bf16") : "fp32";
  o.train.reduce_dtype = *rc::gen::element<std::string>("fp32", "bf16");
  o.train.recompute = o.model.kind == "gmlp" ? *rc::gen::element<std::string>("none", "gate", "block")
                                             : *rc::gen::element<std::string>("none", "block");
  o.train.cuda_graph = *rc::gen::element<std::string>("on", "off");
  o.train.tune = *rc::gen::element<std::string>("on", "off");
  o.train.max_skipped = whole(0, 1000);
  o.train.tensorboard = *rc::gen::arbitrary<bool>();
  o.train.ledger = *rc::gen::arbitrary<bool>() ? path() : "";
  o.train.ledger_detail = o.train.ledger.empty() ? "range" : *rc::gen::element<std::string>("range", "full");
  o.train.threads = whole(0, 1024);
  o.optim.kind = *rc::gen::element<std::string>("adamw", "adam");
  o.optim.lr = positive();
  o.optim.schedule = *rc::gen::element<std::string>("constant", "linear", "cosine", "noam");
  o.optim.warmup_steps = whole(0, o.train.steps);
  o.optim.min_lr = share();
  o.optim.decay_fraction = share();
  o.optim.betas = {share(), share()};
  o.optim.eps = positive();
  o.optim.weight_decay = positive();
  o.optim.clip = positive();
  o.eval = {whole(0, 1'000'000), whole(0, 1'000'000)};
  o.checkpoint = {whole(1, 1000), whole(1, 1000), 0, {}};
  o.checkpoint.keep_every = o.checkpoint.every * whole(0, 1000);
  for (auto n = whole(0, 3); n > 0; --n) o.checkpoint.at.push_back(whole(1, 1'000'000));
  if (o.model.kind != "mixer" && o.model.token_shift == 0 && o.model.dropout == 0) {
    o.parallel.sp = whole(1, std::min<std::int64_t>(4096, o.model.seq_len));
    o.parallel.sp_mode = *rc::gen::element<std::string>("auto", "rowshard");
  }
  o.parallel.bucket_mb = share() + 0.5;
  o.parallel.zero = whole(0, 1);
  o.parallel.exchange =
      *rc::gen::element<std::string>("auto", "kernels", "copy_engines", "peer_memory", "host_memory");
  o.parallel.check_replicas_every = whole(0, 1'000'000);
  o.parallel.watchdog_s = whole(0, 1'000'000);
  return o;
}

RC_GTEST_PROP(OptionTable, ParseOfDumpIsTheSame, ()) {
  const auto options = random_options();
  const auto again = parse_run_options_text(dump_ini(options), "resolved.ini");
  for (const auto& row : option_table()) {
    RC_ASSERT(row.get(again) == row.get(options));
  }
  // The table compares texts; these are the bits.
  RC_ASSERT(again.optim.lr == options.optim.lr);
  RC_ASSERT(again.optim.betas == options.optim.betas);
  RC_ASSERT(again.parallel.bucket_mb == options.parallel.bucket_mb);
  RC_ASSERT(again.parallel.exchange == options.parallel.exchange);
  RC_ASSERT(again.parallel.sp == options.parallel.sp);
  RC_ASSERT(again.parallel.sp_mode == options.parallel.sp_mode);
  RC_ASSERT(again.model.seed == options.model.seed);
  RC_ASSERT(dump_ini(again) == dump_ini(options));
}

TEST(OptionTable, EveryMemberOfTheOptionsHasARow) {
  const auto counted = members<train::RunSection>() + members<train::DataOptions>() +
                       members<model::ModelOptions>() + members<train::TrainOptions>() +
                       members<optim::OptimOptions>() + members<train::EvalOptions>() +
                       members<train::CheckpointOptions>() + members<train::ParallelOptions>();
  EXPECT_EQ(option_table().size(), counted);
  std::set<std::string> keys;
  for (const auto& row : option_table())
    EXPECT_TRUE(keys.insert(row.key).second) << row.key << " stands twice";
}

TEST(OptionTable, KeysOfASectionStandTogether) {
  std::set<std::string> closed;
  std::string open;
  for (const auto& row : option_table()) {
    const auto section = row.key.substr(0, row.key.find('.'));
    if (section == open) continue;
    EXPECT_TRUE(closed.insert(section).second) << section;
    open = section;
  }
}

TEST(OptionTable, NumbersAreAcceptedAtTheirBoundsAndRefusedBeyond) {
  for (const auto& row : option_table()) {
    if (!row.bounds) continue;
    const auto& bounds = *row.bounds;
    const bool whole = row.type == "integer";
    const auto set = [&](double value) {
      auto text = format_number(value);
      if (row.type == "two floats") text += "," + text;
      train::RunOptions options;
      auto fault = row.set(options, text);
      if (fault.empty()) {
        const auto got = row.get(options);
        EXPECT_EQ(*parse_number(got.substr(0, got.find(','))), value) << row.key;
      } else {
        EXPECT_EQ(dump_ini(options), dump_ini({})) << row.key << " was set in spite of: " << fault;
      }
      return fault;
    };
    const auto inside = [&](double limit, double towards) {
      return whole ? limit : std::nextafter(limit, towards);
    };
    const auto beyond = [&](double limit, double away) {
      return whole ? limit + (away > limit ? 1 : -1) : std::nextafter(limit, away);
    };
    const double infinite = std::numeric_limits<double>::infinity();
    if (bounds.low_edge == Edge::kIncluded) {
      EXPECT_EQ(set(bounds.low), "") << row.key;
      EXPECT_THAT(set(beyond(bounds.low, -infinite)), HasSubstr("must be")) << row.key;
    } else {
      EXPECT_EQ(set(inside(bounds.low, infinite)), "") << row.key;
      EXPECT_THAT(set(bounds.low), HasSubstr("must be")) << row.key;
    }
    if (!std::isfinite(bounds.high)) {
      EXPECT_EQ(set(std::numeric_limits<double>::max()), "") << row.key;
    } else if (bounds.high_edge == Edge::kIncluded) {
      EXPECT_EQ(set(bounds.high), "") << row.key;
      EXPECT_THAT(set(beyond(bounds.high, infinite)), HasSubstr("must be")) << row.key;
    } else {
      EXPECT_EQ(set(inside(bounds.high, -infinite)), "") << row.key;
      EXPECT_THAT(set(bounds.high), HasSubstr("must be")) << row.key;
    }
  }
}

TEST(OptionTable, NothingThatIsNoNumberPassesForOne) {
  for (const auto& row : option_table()) {
    if (row.type != "integer" && row.type != "float" && row.type != "two floats") continue;
    for (const std::string text :
         {"", " ", "x", "1x", "nan", "inf", "-inf", "1e999", "0x10", "1,2,3", "--1"}) {
      train::RunOptions options;
      EXPECT_NE(row.set(options, text), "") << row.key << " = " << text;
    }
  }
}

TEST(OptionTable, ChoicesAreThoseOfTheirType) {
  for (const auto& row : option_table()) {
    if (row.type.find('|') == std::string::npos) continue;
    train::RunOptions options;
    EXPECT_THAT(row.set(options, row.type), HasSubstr("must be")) << row.key;
    std::string rest = row.type + "|";
    for (auto bar = rest.find('|'); bar != std::string::npos;
         rest = rest.substr(bar + 1), bar = rest.find('|')) {
      const auto choice = rest.substr(0, bar);
      EXPECT_EQ(row.set(options, choice), "") << row.key;
      EXPECT_EQ(row.get(options), choice);
    }
  }
}

TEST(OptionTable, EveryKeyIsDocumented) {
  const auto help = option_help();
  const auto reference = option_reference_markdown();
  const auto dump = dump_ini({});
  for (const auto& row : option_table()) {
    EXPECT_FALSE(row.help.empty()) << row.key;
    EXPECT_FALSE(row.range.empty()) << row.key;
    EXPECT_TRUE(row.default_text.size() > 0) << row.key;
    EXPECT_THAT(help, HasSubstr("--" + row.key + " ")) << row.key;
    EXPECT_THAT(help, HasSubstr(row.help)) << row.key;
    EXPECT_THAT(reference, HasSubstr("| `" + row.key + "` |")) << row.key;
    EXPECT_THAT(dump, HasSubstr(row.key.substr(row.key.find('.') + 1) + " = ")) << row.key;
  }
}

}  // namespace
}  // namespace sluice::cli
