#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include "tests/unit/cli/faults.h"
#include "trainer/cli/option_table.h"
#include "trainer/cli/terminal.h"
#include "trainer/model/flops.h"
#include "trainer/model/parameters.h"

namespace sluice::cli {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;
using testing::IsEmpty;

const fs::path kRoot = SLUICE_SOURCE_DIR;
const fs::path kModels = kRoot / "configs/models/paper";
constexpr std::int64_t kVocabulary = 32000;
constexpr double kPrintedOtherwise = 0;

/// A file of configs/models/paper.
struct PaperModel {
  const char* file;
  const char* rows;         ///< of arXiv 2105.08050
  double printed;           ///< millions of parameters; kPrintedOtherwise: what is printed cannot be reached
  std::int64_t parameters;  ///< ours
  double printed_gflops;    ///< forward of a sequence of 512 tokens, table 5; 0: not printed
};

constexpr PaperModel kPaper[] = {
    {"bert_base_n128", "table 3, BERT-base; table 10, 12+12", 110, 109'730'304, 0},
    {"bert_base_no_attention", "table 3, BERT-base + rel pos - attn", 96, 95'560'704, 0},
    {"mixer", "table 3, MLP-Mixer, printed 112", kPrintedOtherwise, 140'361'216, 0},
    {"gmlp_linear", "table 3, Linear gMLP", 92, 92'172'764, 0},
    {"gmlp_additive", "table 3, Additive gMLP", 92, 92'172'764, 0},
    {"gmlp_multiplicative", "table 3, Multiplicative gMLP", 92, 92'172'764, 0},
    {"gmlp_18", "table 4", 59, 58'997'486, 0},
    {"gmlp_36", "table 3, Multiplicative, Split; table 4", 102, 101'609'948, 0},
    {"gmlp_72", "table 4", 187, 186'834'872, 0},
    {"gmlp_144", "table 4", 357, 357'284'720, 0},
    {"transformer_6", "table 4", 67, 67'205'376, 0},
    {"transformer_12", "table 3, BERT-base + rel pos; table 4", 110, 109'734'912, 0},
    {"transformer_24", "table 4", 195, 194'793'984, 0},
    {"transformer_48", "table 4", 365, 364'912'128, 0},
    {"amlp_18", "figure 8", 63, 62'567'534, 0},
    {"amlp_36", "figure 8", 109, 108'750'044, 0},
    {"amlp_72", "figure 8", 201, 201'115'064, 0},
    {"amlp_144", "figure 8", 386, 385'845'104, 0},
    {"bert_base", "table 5", 110, 110'025'216, 100.8},
    {"gmlp_base", "table 5", 130, 130'073'552, 158.0},
    {"amlp_base", "table 5", 109, 108'791'516, 128.9},
    {"bert_large", "table 5", 336, 335'603'712, 341.2},
    {"gmlp_large", "table 5", 365, 365'274'528, 430.1},
    {"amlp_large", "table 5", 316, 315'627'960, 370.3},
    {"gmlp_xlarge", "table 5", 941, 940'582'768, 1091.3},
    {"thin_transformer_24", "table 10", 92, 92'107'776, 0},
    {"thin_transformer_48", "table 10", 98, 97'512'192, 0},
    {"thin_transformer_96", "table 10", 84, 84'042'240, 0},
};

std::string text_of(const fs::path& file) {
  std::ostringstream text;
  text << std::ifstream(file).rdbuf();
  return text.str();
}

fs::path file_of(const PaperModel& one) { return kModels / (std::string(one.file) + ".ini"); }

train::RunOptions settings_of(const PaperModel& one) {
  return parse_partial_options(text_of(file_of(one)), one.file);
}

TEST(PaperModels, HaveThePapersParameters) {
  for (const PaperModel& one : kPaper) {
    SCOPED_TRACE(std::string(one.file) + ": " + one.rows);
    const auto options = settings_of(one).model;
    EXPECT_EQ(model::parameter_count(model::parameter_specs(options, kVocabulary)), one.parameters);
    if (one.printed != kPrintedOtherwise) {
      EXPECT_EQ(std::round(1e-6 * static_cast<double>(one.parameters)), one.printed);
    }
    EXPECT_THAT(text_of(file_of(one)), HasSubstr(full_count(one.parameters)));
  }
}

/// A block's forward takes 2 d f + 2 c d + 2 n c multiplications and additions a token, of c = f / 2, and
/// with a tiny attention of a channels 2 d 3a + 4 n a + 2 a c; an encoder's 8 d d + 4 d f + 4 n d. Table 5's
/// figures fit to these and to logits, 2 d V, of the masked positions alone, 15 % of 512; what is left, 0.3
/// to 0.6 %, are operations that are no matrix products.
TEST(PaperModels, HaveThePapersFlops) {
  constexpr double kLeastShare = 0.99;
  std::int64_t compared = 0;
  for (const PaperModel& one : kPaper) {
    if (one.printed_gflops == 0) continue;
    SCOPED_TRACE(one.file);
    const auto run = settings_of(one);
    ASSERT_EQ(run.model.seq_len, 512);
    ASSERT_EQ(run.train.objective, "mlm");
    const auto flops =
        model::count_flops(run.model, kVocabulary, model::Recompute::kNone, run.train.mask_rate);
    const double forward_gflops = 1e-9 * 512 * flops.useful_per_token / 3;
    EXPECT_GT(forward_gflops, kLeastShare * one.printed_gflops);
    EXPECT_LE(forward_gflops, one.printed_gflops);
    ++compared;
  }
  EXPECT_EQ(compared, 7);
}

TEST(PaperModels, AreAllFilesOfTheirFolder) {
  std::set<std::string> expected;
  for (const PaperModel& one : kPaper) expected.insert(file_of(one).filename().string());
  std::set<std::string> found;
  for (const auto& entry : fs::directory_iterator(kModels)) found.insert(entry.path().filename().string());
  EXPECT_EQ(found, expected);
  EXPECT_EQ(expected.size(), std::size(kPaper));
}

TEST(PaperModels, AreTrainedByThePapersSetUps) {
  for (const PaperModel& one : kPaper) {
    const auto length = settings_of(one).model.seq_len;
    const std::string experiment = length == 128 ? "paper_ablation.ini" : "paper_full.ini";
    const auto run = parse_run_options({"--config", (kRoot / "configs/experiments" / experiment).string(),
                                        file_of(one).string(), "--run.dir=r", "--data.corpus=c"});
    EXPECT_EQ(run.model.seq_len, length);
    EXPECT_EQ(run.train.steps * run.train.global_batch * length,
              length == 128 ? 32'768'000'000 : 131'072'000'000);
    EXPECT_EQ(run.optim.lr, length == 128 ? 7e-4 : 1e-4);
    EXPECT_EQ(run.optim.warmup_steps, 10000);
    EXPECT_EQ(run.optim.clip, 0);
    EXPECT_EQ(run.optim.min_lr, 0);
  }
}

/// Four micro-batches of four windows, and the parameters of the script's model with its 256 ids.
TEST(Experiments, OfGmlpPytorchIsItsScripts) {
  const auto file = kRoot / "configs/experiments/gmlp_pytorch_enwik8.ini";
  const auto run = parse_run_options({"--config", file.string(), "--run.dir=r", "--data.corpus=c"});
  EXPECT_EQ(model::parameter_count(model::parameter_specs(run.model, 256)), 17'616'128);
  EXPECT_EQ(model::parameter_count(model::parameter_specs(run.model, 257)), 17'616'128 + 1025);
  EXPECT_EQ(run.train.global_batch, 4 * run.train.micro_batch);
  EXPECT_EQ(run.optim.clip, 0.5 / 4);
  EXPECT_EQ(run.optim.eps, 1e-8 / 4);
}

}  // namespace
}  // namespace sluice::cli
