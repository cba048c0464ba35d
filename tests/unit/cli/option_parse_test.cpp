#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "tests/unit/cli/faults.h"
#include "trainer/cli/option_table.h"

namespace sluice::cli {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

std::vector<std::string> parse_faults(const std::vector<std::string>& words) {
  return faults_of([&] { (void)parse_run_options(words); });
}

/// Settings files that vanish with the test.
class OptionFiles : public testing::Test {
 protected:
  OptionFiles() : directory_(testing::TempDir() + "sluice_options_" + std::to_string(::getpid())) {
    std::filesystem::create_directories(directory_);
  }
  ~OptionFiles() override { std::filesystem::remove_all(directory_); }

  std::string write(const std::string& name, const std::string& text) {
    const auto file = (directory_ / name).string();
    std::ofstream(file) << text;
    return file;
  }

  std::filesystem::path directory_;
};

TEST(OptionParse, DefaultsAreThoseOfTheStructs) {
  const auto options = parse_run_options(valid_words());
  EXPECT_EQ(options.run.dir, "runs/a");
  EXPECT_EQ(options.train.steps, 100);
  EXPECT_EQ(options.model.d_ffn, model::ModelOptions{}.d_ffn);
  EXPECT_EQ(options.optim.betas, optim::OptimOptions{}.betas);
}

TEST(OptionParse, ValueAfterAnEqualsSignOrAfterASpace) {
  EXPECT_EQ(parse_run_options(valid_words({"--optim.lr=6e-4"})).optim.lr, 6e-4);
  EXPECT_EQ(parse_run_options(valid_words({"--optim.lr", "6e-4"})).optim.lr, 6e-4);
  EXPECT_EQ(parse_run_options(valid_words({"--data.window", "random-offset"})).data.window, "random-offset");
}

TEST(OptionParse, ABareBooleanIsTrue) {
  EXPECT_TRUE(parse_run_options(valid_words({"--run.new"})).run.new_run);
  EXPECT_TRUE(parse_run_options(valid_words({"--run.new", "true"})).run.new_run);
  EXPECT_FALSE(parse_run_options(valid_words({"--run.new=false"})).run.new_run);
  EXPECT_FALSE(parse_run_options(valid_words({"--run.new", "false", "--run.seed=1"})).run.new_run);
}

TEST(OptionParse, WholeNumbersInScientificNotation) {
  EXPECT_EQ(parse_run_options(valid_words({"--run.seed=18446744073709551615"})).run.seed,
            18446744073709551615u);
  EXPECT_EQ(parse_run_options(valid_words({"--model.seq_len=1.5e3"})).model.seq_len, 1500);
  EXPECT_THAT(parse_faults(valid_words({"--model.seq_len=1.5"})),
              ElementsAre("model.seq_len = 1.5: must be a whole number, 1 ... 10^6 (command line)"));
}

TEST(OptionParse, TokensBecomeSteps) {
  std::vector<std::string> words{"--run.dir=r", "--data.corpus=c", "--train.global_batch=32",
                                 "--model.seq_len=256"};
  words.push_back("--train.tokens=1e6");
  EXPECT_EQ(parse_run_options(words).train.steps, 123);  // 1e6 / 8192 = 122.07
  words.back() = "--train.tokens=8192";
  EXPECT_EQ(parse_run_options(words).train.steps, 1);
  words.back() = "--train.tokens=8193";
  EXPECT_EQ(parse_run_options(words).train.steps, 2);
}

TEST(OptionParse, StepsAndTokensTogetherMustAgree) {
  EXPECT_THAT(parse_faults(valid_words({"--train.tokens=1e6"})),
              ElementsAre(HasSubstr("the latter are 123 steps")));
  EXPECT_THAT(parse_faults({"--run.dir=r", "--data.corpus=c"}),
              ElementsAre("train.steps or train.tokens: one must be given, and above 0"));
}

TEST_F(OptionFiles, TheLaterOfStepsAndTokensWins) {
  const auto file = write("a.ini", "[train]\ntokens = 1e6\n[run]\ndir = r\n[data]\ncorpus = c\n");
  EXPECT_EQ(parse_run_options({"--config", file}).train.steps, 123);
  const auto options = parse_run_options({"--config", file, "--train.steps=7"});
  EXPECT_EQ(options.train.steps, 7);
  EXPECT_EQ(options.train.tokens, 0);
}

TEST(OptionParse, SeedsDefaultToTheRunsSeed) {
  const auto options = parse_run_options(valid_words({"--run.seed=7", "--data.seed=8"}));
  EXPECT_EQ(options.model.seed, 7u);
  EXPECT_EQ(options.data.seed, 8u);
}

TEST_F(OptionFiles, CommandLineOverLaterFileOverEarlierFile) {
  const auto first = write("first.ini", "[optim]\nlr = 1e-1\neps = 1e-1\nclip = 0.1\n");
  const auto second = write("second.ini", "# a comment\n\n[optim]\nlr = 2e-1  # another\neps = 2e-1\n");
  for (const auto& config : {std::vector<std::string>{"--config", first, second},
                             std::vector<std::string>{"--config=" + first, "--config", second}}) {
    auto words = valid_words({"--optim.lr=3e-1"});
    words.insert(words.begin(), config.begin(), config.end());
    const auto options = parse_run_options(words);
    EXPECT_EQ(options.optim.lr, 0.3);
    EXPECT_EQ(options.optim.eps, 0.2);
    EXPECT_EQ(options.optim.clip, 0.1);
  }
}

TEST_F(OptionFiles, AllFaultsOfAllSourcesAtOnce) {
  const auto first = write("first.ini", "[optm]\nlr = 1\n[optim]\nlr = -1\nnonsense\nclip = x\n");
  const auto second = write("second.ini", "[model]\nlayers = 0\nlayers = 3\nd_ffn = 7\n");
  const auto missing = (directory_ / "missing.ini").string();
  EXPECT_THAT(
      parse_faults({"--config", first, second, missing, "--optim.betas=0.9", "--optm.eps", "1",
                    "--optim.schedule=step", "stray", "--eval.every", "--run.seed=1", "--run.seed=2",
                    "--train.micro_batch=64"}),
      ElementsAre("optm.lr: unknown key (" + first + ", line 2); did you mean optim.lr?",
                  "'nonsense': neither [section] nor key = value (" + first + ", line 5)",
                  "model.layers: given twice (" + second + ", lines 2 and 3)",
                  "--config " + missing + ": cannot be read (No such file or directory)",
                  "optm.eps: unknown key (command line); did you mean optim.eps?",
                  "'stray': unexpected word; a setting is --section.key=value (command line)",
                  "eval.every: needs a value, 0 ... 10^9 (command line)",
                  "run.seed: given twice (command line)",
                  "optim.lr = -1: must be > 0 (" + first + ", line 4)",
                  "optim.clip = x: must be a number >= 0 (" + first + ", line 6)",
                  "model.layers = 0: must be 1 ... 10^4 (" + second + ", line 2)",
                  "optim.betas = 0.9: must be two numbers with a comma between them, each >= 0 and < 1 "
                  "(command line)",
                  "optim.schedule = step: must be constant or linear or cosine or wsd or noam (command line)",
                  "run.dir: must be given (the directory that the run writes into)",
                  "data.corpus: must be given (a directory that `sluice prepare` wrote)",
                  "train.steps or train.tokens: one must be given, and above 0",
                  "model.d_ffn = 7: must be even, the gate takes one half of it",
                  "train.micro_batch = 64: must be at most train.global_batch = 32"));
}

TEST_F(OptionFiles, AFileThatIsADirectoryIsNamed) {
  EXPECT_THAT(parse_faults(valid_words({"--config", directory_.string()})),
              ElementsAre("--config " + directory_.string() + ": cannot be read (Is a directory)"));
}

TEST(OptionParse, NothingIsGuessedFromAnAbbreviation) {
  EXPECT_THAT(parse_faults(valid_words({"--optim.l=1"})),
              ElementsAre("optim.l: unknown key (command line); did you mean optim.lr?"));
  EXPECT_THAT(parse_faults(valid_words({"-c", "x"})).size(), 2u);
}

TEST(OptionParse, SuggestsTheNearestKey) {
  for (const auto& [wrong, right] :
       std::vector<std::pair<std::string, std::string>>{{"optm.lr", "optim.lr"},
                                                        {"lr", "optim.lr"},
                                                        {"train.lr", "optim.lr"},
                                                        {"modle.layers", "model.layers"},
                                                        {"model.d_modle", "model.d_model"},
                                                        {"checkpoint.evry", "checkpoint.every"},
                                                        {"train.microbatch", "train.micro_batch"},
                                                        {"confg", "config"}}) {
    EXPECT_THAT(parse_faults(valid_words({"--" + wrong + "=1"})),
                ElementsAre(wrong + ": unknown key (command line); did you mean " + right + "?"));
  }
  EXPECT_THAT(parse_faults(valid_words({"--colour=blue"})),
              ElementsAre("colour: unknown key (command line)"));
}

TEST(OptionParse, Combinations) {
  const std::vector<std::pair<std::vector<std::string>, std::string>> cases = {
      {{"--model.d_ffn=7"}, "model.d_ffn = 7: must be even"},
      {{"--model.positions=sinusoidal", "--model.d_model=5"}, "needs an even model.d_model, which is 5"},
      {{"--model.causal=false"}, "see its own target"},
      {{"--model.positions=relative"}, "model.positions = relative: is of model.kind = transformer"},
      {{"--model.d_spatial=4"}, "model.d_spatial = 4: is of model.kind = mixer alone"},
      {{"--model.kind=transformer", "--model.attention=positions_only"}, "set model.positions = relative"},
      {{"--model.kind=transformer", "--model.attention=positions_only", "--model.positions=relative"}, ""},
      {{"--model.kind=mixer"}, "model.causal = true: must be false for model.kind = mixer"},
      {{"--model.kind=mixer", "--model.causal=false", "--train.objective=mlm", "--model.positions=learned"},
       ""},
      {{"--model.kind=mixer", "--model.causal=false", "--train.objective=mlm", "--model.positions=relative"},
       "model.positions = relative: is of attention, which a mixer does not have"},
      {{"--model.kind=mixer", "--model.causal=false", "--train.objective=mlm", "--model.heads=4"},
       "model.heads = 4: is of model.kind = transformer alone"},
      {{"--model.kind=mixer", "--model.causal=false", "--train.objective=mlm", "--train.recompute=gate"},
       "a mixer has no gate"},
      {{"--train.objective=mlm"}, "model.causal = true: must be false under train.objective = mlm"},
      {{"--train.objective=mlm", "--model.causal=false", "--train.mask_rate=0.3"}, ""},
      {{"--train.mask_rate=0.2"}, "are of train.objective = mlm alone"},
      {{"--train.objective=mlm", "--model.causal=false", "--train.mask_token_share=0.95"},
       "train.mask_token_share = 0.95 and train.mask_random_share = 0.1: are shares of the same tokens"},
      {{"--train.objective=mlm", "--model.causal=false", "--train.mask_rate=0"},
       "train.mask_rate = 0: must be"},
      {{"--model.heads=4"}, "model.heads = 4: is of model.kind = transformer alone"},
      {{"--model.dropout=0.1"}, ""},
      {{"--train.residual_dtype=bf16"},
       "train.residual_dtype = bf16: must be fp32 under train.precision = fp32"},
      {{"--train.residual_dtype=bf16", "--train.precision=bf16"}, ""},
      {{"--train.residual_dtype=bf16", "--train.precision=fp8"}, ""},
      {{"--train.precision=fp8", "--model.dropout=0.1"}, "train.precision = fp8: is of the paper's own gMLP"},
      {{"--train.precision=fp8", "--model.kind=transformer"},
       "train.precision = fp8: is of the paper's own gMLP"},
      {{"--train.precision=fp8", "--model.d_ffn=1040"},
       "model.d_model = 256 and model.d_ffn / 2 = 520 must be multiples of 16"},
      {{"--model.gelu=tanh"}, ""},
      {{"--model.init=fan_in"}, ""},
      {{"--model.init=fan_in", "--model.init_std=0.1"},
       "model.init_std = 0.1: is of model.init = normal alone"},
      {{"--model.gate=additive", "--model.d_ffn=7"}, ""},
      {{"--model.spatial_heads=7"}, "model.spatial_heads = 7: must divide the gate's 768 channels"},
      {{"--model.spatial_heads=3", "--model.gate=linear", "--model.d_ffn=10"},
       "must divide the gate's 10 channels (model.d_ffn = 10, model.gate = linear)"},
      {{"--model.spatial=toeplitz", "--model.spatial_heads=4", "--model.tiny_attention=64"}, ""},
      {{"--model.tiny_attention_qkv_bias=false"}, "model.tiny_attention = 0 has no queries"},
      {{"--model.tiny_attention_qkv_bias=false", "--model.tiny_attention=64"}, ""},
      {{"--model.token_shift=256"}, "model.token_shift = 256: must be below model.seq_len = 256"},
      {{"--model.token_shift=4", "--model.d_model=4"}, "makes 5 groups of model.d_model = 4 channels"},
      {{"--model.kind=transformer", "--model.gate=linear"},
       "model.gate = linear: is of model.kind = gmlp alone"},
      {{"--model.kind=transformer", "--model.tiny_attention=64"}, "is of model.kind = gmlp alone"},
      {{"--model.kind=transformer", "--model.stochastic_depth=0.1"}, "is of model.kind = gmlp alone"},
      {{"--model.bias=false"}, "model.bias = false: is of model.kind = transformer alone"},
      {{"--model.positions=rotary"}, "model.positions = rotary: is of model.kind = transformer"},
      {{"--model.positions=learned"}, "model.positions = learned: is of model.kind = transformer"},
      {{"--model.kind=transformer", "--model.d_ffn=7"}, ""},
      {{"--model.kind=transformer", "--model.spatial_init=0.5"}, "is of model.kind = gmlp alone"},
      {{"--model.kind=transformer", "--model.heads=3"}, "must divide model.d_model = 256"},
      {{"--model.kind=transformer", "--model.d_model=24", "--model.positions=rotary"},
       "turns pairs of channels, and a head has 3 (model.d_model = 24 / model.heads = 8)"},
      {{"--model.kind=transformer", "--model.mlp=swiglu", "--model.gelu=tanh"}, "swiglu has no GELU"},
      {{"--model.kind=transformer", "--model.rotary_base=500"}, "model.positions = none turns nothing"},
      {{"--model.kind=transformer", "--train.recompute=gate"}, "a transformer has no gate"},
      {{"--train.micro_batch=33"}, "train.micro_batch = 33: must be at most train.global_batch = 32"},
      {{"--optim.warmup_steps=101"}, "optim.warmup_steps = 101: must be at most train.steps = 100"},
      {{"--optim.schedule=wsd", "--optim.warmup_steps=81"}, "optim.warmup_steps = 81: must be at most 80"},
      {{"--train.ledger_detail=full"}, "needs train.ledger"},
      {{"--checkpoint.keep_every=150"}, "must be a multiple of checkpoint.every = 100"},
      {{"--checkpoint.keep_every=150", "--checkpoint.every=0"}, "checkpoint.every = 0 (never)"},
      {{"--train.global_batch=1e7", "--model.seq_len=1e6", "--eval.every=1", "--optim.eps=1"}, ""},
  };
  for (const auto& [words, fault] : cases) {
    const auto faults = parse_faults(valid_words(words));
    if (fault.empty()) {
      EXPECT_THAT(faults, IsEmpty());
    } else {
      EXPECT_THAT(faults, ElementsAre(HasSubstr(fault)));
    }
  }
  EXPECT_THAT(parse_faults({"--run.dir=a/../b", "--data.corpus=b", "--train.steps=1"}),
              ElementsAre(HasSubstr("a run needs a directory of its own")));
  EXPECT_THAT(parse_faults({"--run.dir=a/../b", "--data.corpus=c:1,b:2", "--train.steps=1"}),
              ElementsAre(HasSubstr("run.dir and data.corpus are both a/../b")));
  EXPECT_THAT(parse_faults({"--run.dir=a", "--data.corpus=b:0,c,d:1", "--train.steps=1"}),
              ElementsAre(HasSubstr("data.corpus: 'b:0' has the weight 0"),
                          HasSubstr("data.corpus: 'c' is not PATH:WEIGHT")));
  EXPECT_THAT(parse_faults({"--run.dir=a", "--data.corpus=b:1,c:2", "--train.steps=1"}), IsEmpty());
  EXPECT_THAT(parse_faults({"--run.dir=a", "--data.corpus=b", "--train.steps=1e9", "--train.global_batch=1e7",
                            "--model.seq_len=1e6"}),
              ElementsAre(HasSubstr("tokens: at most 9e+18 can be counted")));
}

TEST(OptionParse, AllFaultsOfAModelAtOnce) {
  EXPECT_THAT(
      parse_faults(valid_words({"--model.kind=transformer", "--model.heads=3", "--model.spatial_init=0.5",
                                "--model.causal=false", "--train.recompute=gate"})),
      ElementsAre(HasSubstr("model.spatial_init"), HasSubstr("model.heads"), HasSubstr("train.recompute"),
                  HasSubstr("model.causal = false")));
}

TEST(OptionParse, EdgesOfCombinations) {
  EXPECT_THAT(parse_faults(valid_words({"--train.micro_batch=32", "--optim.warmup_steps=100"})), IsEmpty());
  EXPECT_THAT(parse_faults(valid_words({"--optim.schedule=wsd", "--optim.warmup_steps=80"})), IsEmpty());
  EXPECT_THAT(parse_faults(valid_words({"--optim.schedule=noam", "--optim.warmup_steps=2000"})), IsEmpty());
}

TEST(OptionParse, ListsOfSteps) {
  const auto steps = [](const std::string& text) {
    return parse_run_options(valid_words({"--checkpoint.at=" + text})).checkpoint.at;
  };
  EXPECT_THAT(steps("100"), ElementsAre(100));
  EXPECT_THAT(steps("250, 100,1e3"), ElementsAre(250, 100, 1000));
  for (const std::string text : {"0", "5,", ",5", "5,,6", "5;6", "1.5", "5,x", "2e9"}) {
    EXPECT_THAT(parse_faults(valid_words({"--checkpoint.at=" + text})),
                ElementsAre(HasSubstr("checkpoint.at = " + text + ": must be whole numbers with commas")))
        << text;
  }
}

TEST(OptionParse, TextThatAFileCannotHoldIsRefused) {
  EXPECT_THAT(parse_faults({"--run.dir=a#b", "--data.corpus= c", "--train.steps=1", "--train.ledger=a\nb"}),
              ElementsAre(HasSubstr("run.dir = a#b: must not contain '#'"),
                          HasSubstr("must not begin or end with a space"),
                          HasSubstr("must not contain control characters")));
}

}  // namespace
}  // namespace sluice::cli
