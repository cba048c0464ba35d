#include "trainer/study/csv.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "tests/unit/study/temporary_run.h"
#include "trainer/train/errors.h"

namespace sluice::study {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

std::vector<std::string> faults_of(const std::string& text) {
  try {
    (void)parse_csv(text, "t.csv");
  } catch (const train::InputError& error) {
    return error.faults();
  }
  return {};
}

TEST(Csv, ReadsQuotedFieldsWithCommasQuotesAndLineEnds) {
  const auto table = parse_csv("a,\"b c\",d\r\n1,\"x,\"\"y\"\"\r\nz\",\n ,\"\",3", "t.csv");
  EXPECT_THAT(table.columns, ElementsAre("a", "b c", "d"));
  ASSERT_EQ(table.rows.size(), 2U);
  EXPECT_THAT(table.rows[0], ElementsAre("1", "x,\"y\"\r\nz", ""));
  EXPECT_THAT(table.rows[1], ElementsAre(" ", "", "3"));
  EXPECT_THAT(table.lines, ElementsAre(2, 4));
}

TEST(Csv, PassesOverAByteOrderMarkAndLinesWithoutText) {
  const auto table = parse_csv(
      "\xEF\xBB\xBF"
      "a,b\n\n1,2\r\n\r\n",
      "t.csv");
  EXPECT_THAT(table.columns, ElementsAre("a", "b"));
  ASSERT_EQ(table.rows.size(), 1U);
  EXPECT_THAT(table.lines, ElementsAre(3));
}

TEST(Csv, NamesEveryFaultWithItsLine) {
  EXPECT_THAT(faults_of("a,b\n1\n1,2\n1,2,3\n"),
              ElementsAre("t.csv, line 2: 1 fields, but the header has 2 columns",
                          "t.csv, line 4: 3 fields, but the header has 2 columns"));
  EXPECT_THAT(faults_of("a,b\n1,x\"y\n\"p\"q,2\n1,\"2"),
              ElementsAre(HasSubstr("line 2, column 2: a quote within a field"),
                          HasSubstr("line 3, column 1: text after the closing quote"),
                          HasSubstr("line 4, column 2: a quote is never closed")));
  EXPECT_THAT(faults_of("a,,a\n"), ElementsAre("t.csv, line 1, column 2: has no name",
                                               "t.csv, line 1, column 3: a is the name of column 1 too"));
  EXPECT_THAT(faults_of("\n\n"), ElementsAre(HasSubstr("no line with the columns' names")));
}

TEST(Csv, AFieldIsANumberOrTheFaultSaysWhere) {
  const auto table = parse_csv("loss,params\n3.25,1e9\n,x\n", "t.csv");
  EXPECT_EQ(table.number(0, "loss"), 3.25);
  EXPECT_EQ(table.number(0, "params"), 1e9);
  EXPECT_TRUE(std::isnan(table.number(1, "loss")));
  EXPECT_TRUE(std::isnan(table.number(1, "no such column")));
  try {
    (void)table.number(1, "params");
    FAIL() << "no exception";
  } catch (const train::InputError& error) {
    EXPECT_STREQ(error.what(), "t.csv, line 3, column params: 'x' is not a finite number");
  }
  for (const char* text : {"nan", "inf", "1e999", "1 ", "0x10"})
    EXPECT_THROW((void)parse_csv(std::string("loss\n") + text, "t.csv").number(0, "loss"), train::InputError)
        << text;
}

TEST(Csv, WhatIsWrittenIsReadBack) {
  const Table table{.columns = {"plain", "with,comma"},
                    .rows = {{"", ""}, {"a \"quoted\" word", "two\nlines"}, {" space ", "\r"}}};
  const TemporaryRun run;
  run.write("t.csv", csv_text(table));
  const auto back = read_csv(run.path() / "t.csv");
  EXPECT_EQ(back.columns, table.columns);
  EXPECT_EQ(back.rows, table.rows);
  const Table narrow{.columns = {"one"}, .rows = {{""}, {"x"}}};
  EXPECT_EQ(parse_csv(csv_text(narrow), "t.csv").rows, narrow.rows);
}

TEST(Csv, NamesAFileThatCannotBeRead) {
  for (const char* file : {"/nowhere/t.csv", "/tmp"}) {
    try {
      (void)read_csv(file);
      FAIL() << "no exception";
    } catch (const train::InputError& error) {
      EXPECT_THAT(error.what(), HasSubstr(std::string(file) + ": cannot be read"));
    }
  }
}

}  // namespace
}  // namespace sluice::study
