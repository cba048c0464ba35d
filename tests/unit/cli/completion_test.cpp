#include "trainer/cli/completion.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "trainer/cli/command.h"
#include "trainer/cli/option_table.h"
#include "trainer/train/scratch_directory.h"

namespace sluice::cli {
namespace {

using testing::AllOf;
using testing::Contains;
using testing::ElementsAre;
using testing::IsEmpty;
using testing::Not;
using testing::UnorderedElementsAre;

/// What bash offers for `line` with the cursor at its end: the words of COMPREPLY.
std::vector<std::string> offered(const std::string& line) {
  const train::ScratchDirectory scratch("completion");
  const auto script = scratch.path() / "script";
  std::ofstream(script)
      << bash_completion() << "COMP_LINE='" << line << "'\nCOMP_POINT=${#COMP_LINE}\n"
      << "COMP_WORDS=($COMP_LINE)\n[[ $COMP_LINE == *' ' ]] && COMP_WORDS+=('')\n"
      << "COMP_CWORD=$((${#COMP_WORDS[@]} - 1))\n_sluice\nprintf '%s\\n' \"${COMPREPLY[@]}\"\n";
  std::FILE* const pipe =
      popen(("cd " + scratch.path().string() + " && bash " + script.string() + " 2>&1").c_str(), "r");
  std::string text;
  std::array<char, 4096> part{};
  while (const std::size_t got = std::fread(part.data(), 1, part.size(), pipe)) text.append(part.data(), got);
  EXPECT_EQ(pclose(pipe), 0) << text;
  std::vector<std::string> words;
  std::istringstream lines(text);
  for (std::string word; std::getline(lines, word);)
    if (!word.empty()) words.push_back(word);
  return words;
}

TEST(Completion, FlagsAreThoseThatTheHelpNames) {
  EXPECT_THAT(completion_words("  --out FILE  where, not --out\n  -x  a-- b\n  --top-k=N, --seed.\n"),
              ElementsAre("--out", "--top-k", "--seed"));
  EXPECT_THAT(completion_words("no flags"), IsEmpty());
}

TEST(Completion, BashOffersEveryCommand) {
  const auto words = offered("sluice ");
  for (const auto& command : commands()) EXPECT_THAT(words, Contains(command.name));
  EXPECT_THAT(offered("sluice veri"), ElementsAre("verify"));
  EXPECT_THAT(offered("sluice --v"), ElementsAre("--version"));
}

TEST(Completion, BashOffersACommandsFlagsAndEverySetting) {
  EXPECT_THAT(offered("sluice prepare --tok"), UnorderedElementsAre("--tokens", "--tokenizer"));
  const auto words = offered("sluice train --");
  for (const auto& row : option_table()) EXPECT_THAT(words, Contains("--" + row.key + "="));
  EXPECT_THAT(words, AllOf(Contains("--config"), Contains("--help"), Not(Contains("--tokenizer"))));
}

TEST(Completion, BashOffersTheChoicesOfASettingAndFilesElsewhere) {
  EXPECT_THAT(offered("sluice train --train.precision=b"), ElementsAre("bf16"));
  EXPECT_THAT(offered("sluice train --model.kind=tr"), ElementsAre("transformer"));
  EXPECT_THAT(offered("sluice train --run.dir=scr"), ElementsAre("script"));
  EXPECT_THAT(offered("sluice inspect s"), ElementsAre("script"));
}

}  // namespace
}  // namespace sluice::cli
