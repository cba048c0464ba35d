#include "trainer/cli/arguments.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>
#include <stdexcept>

#include "tests/unit/cli/faults.h"

namespace sluice::cli {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

const std::vector<Flag> kFlags = {
    {"--input", "FILE", "text to read", true, true, ""},
    {"--out", "DIR", "where to", true, false, ""},
    {"--jobs", "J", "threads", false, false, "4"},
    {"--json", "", "for machines", false, false, ""},
};

std::vector<std::string> argument_faults(const std::vector<std::string>& words,
                                         const std::string& positional = "") {
  return faults_of([&] { const Arguments arguments(kFlags, words, positional); });
}

TEST(Arguments, FlagsInAnyOrderAndForm) {
  const Arguments arguments(kFlags, {"--json", "--input", "a", "b", "c", "--out=d"});
  EXPECT_THAT(arguments.list("--input"), ElementsAre("a", "b", "c"));
  EXPECT_EQ(arguments.text("--out"), "d");
  EXPECT_TRUE(arguments.has("--json"));
  EXPECT_FALSE(arguments.has("--jobs"));
  EXPECT_EQ(arguments.text("--jobs"), "4");
  EXPECT_EQ(arguments.integer("--jobs", 1, 8), 4);
}

TEST(Arguments, APositionalWordMayStandAnywhere) {
  const std::vector<Flag> flags = {{"--json", "", "for machines", false, false, ""},
                                   {"--split", "NAME", "which", false, false, "train"}};
  for (const auto& words : {std::vector<std::string>{"there", "--json", "--split", "valid"},
                            std::vector<std::string>{"--json", "there", "--split=valid"},
                            std::vector<std::string>{"--split", "valid", "there", "--json"}}) {
    const Arguments arguments(flags, words, "PATH");
    EXPECT_THAT(arguments.positional(), ElementsAre("there"));
    EXPECT_EQ(arguments.text("--split"), "valid");
    EXPECT_TRUE(arguments.has("--json"));
  }
}

TEST(Arguments, AllFaultsAtOnce) {
  EXPECT_THAT(argument_faults({"stray", "--inptu", "a", "--jobs", "1", "--jobs=2", "--json=yes"}),
              ElementsAre("--inptu: unknown flag; did you mean --input?", "--jobs: given twice",
                          HasSubstr("--json: takes no value"), "--input FILE: must be given (text to read)",
                          "--out DIR: must be given (where to)", "'stray': unexpected word"));
}

TEST(Arguments, AFlagWithoutItsValue) {
  EXPECT_THAT(argument_faults({"--input", "a", "--out"}), ElementsAre("--out: needs a value"));
  EXPECT_THAT(argument_faults({"--out", "--input", "a"}), ElementsAre("--out: needs a value"));
}

TEST(Arguments, APositionalWordThatIsMissingOrTooMany) {
  EXPECT_THAT(argument_faults({"--input", "a", "--out", "b"}, "PATH"), ElementsAre("PATH: must be given"));
  EXPECT_THAT(argument_faults({"p", "json", "--input", "a", "--out", "b"}, "PATH"),
              ElementsAre("'json': unexpected word; did you mean --json?"));
}

TEST(Arguments, NumbersNameTheFlagTheValueAndWhatIsAllowed) {
  const std::vector<Flag> flags = {{"--n", "N", "a number", false, false, ""}};
  const auto fault = [&](const std::string& text, double low, double high) {
    const Arguments arguments(flags, {"--n=" + text});
    return faults_of([&] { (void)arguments.number("--n", low, high); });
  };
  EXPECT_THAT(fault("0.5", 0, 1), ElementsAre());
  EXPECT_THAT(fault("1.5", 0, 1), ElementsAre("--n = 1.5: must be a number, 0 ... 1"));
  EXPECT_THAT(fault("x", 0, std::numeric_limits<double>::infinity()),
              ElementsAre("--n = x: must be a number, >= 0"));
  const Arguments arguments(flags, {"--n", "-3"});
  EXPECT_EQ(arguments.integer("--n", -3, 3), -3);
  EXPECT_THAT(faults_of([&] { (void)arguments.integer("--n", 1, 3); }),
              ElementsAre("--n = -3: must be a whole number, 1 ... 3"));
  EXPECT_THAT(faults_of([&] {
                (void)arguments.choice("--n", {"a", "b"});
              }),
              ElementsAre("--n = -3: must be a or b"));
}

TEST(Arguments, AskingForAFlagThatIsNotDeclaredIsAMistakeOfOurs) {
  const Arguments arguments({}, {});
  EXPECT_THROW((void)arguments.text("--other"), std::logic_error);
}

TEST(Arguments, HelpNamesEveryFlag) {
  const auto help = flag_help(kFlags);
  EXPECT_THAT(help, HasSubstr("--input FILE...  text to read (required)"));
  EXPECT_THAT(help, HasSubstr("threads (default 4)"));
}

TEST(Nearest, FindsWhatIsNearAndNothingElse) {
  const std::vector<std::string> known = {"train", "eval", "verify"};
  EXPECT_EQ(nearest("trian", known), "train");
  EXPECT_EQ(nearest("eval", known), "eval");
  EXPECT_EQ(nearest("generate", known), "");
}

}  // namespace
}  // namespace sluice::cli
