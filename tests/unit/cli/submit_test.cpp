#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <system_error>

#include "tests/unit/cli/faults.h"
#include "trainer/cli/batch_script.h"
#include "trainer/cli/site.h"
#include "trainer/cli/spawn.h"

namespace sluice::cli {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;
using testing::SizeIs;
using testing::StartsWith;

const std::filesystem::path kRoot = SLUICE_SOURCE_DIR;

std::string content(const std::filesystem::path& file) {
  std::ifstream stream(file);
  return {std::istreambuf_iterator<char>(stream), {}};
}

std::vector<std::string> site_faults(const std::string& text) {
  return faults_of([&] { (void)parse_site(text, "site.ini"); });
}

BatchJob job_of(const std::string& run) {
  return {.name = "mine",
          .program = "/opt/sluice",
          .run = run,
          .directory = "/home/me",
          .ranks = 4,
          .time = "1:00:00"};
}

TEST(Site, AnEmptyFileIsSlurmsOwnDefaults) {
  const auto site = parse_site("", "site.ini");
  EXPECT_EQ(site.launch, "srun --mpi=pmix --ntasks={ranks} {command}");
  EXPECT_TRUE(site.signal_steps);
  EXPECT_TRUE(site.requeue);
  EXPECT_EQ(site.array, 1001);
  EXPECT_THAT(site.sbatch, ElementsAre());
}

TEST(Site, LinesOfSbatchAndPrologueStayAsTheyStand) {
  const auto site = parse_site(
      "# a comment\n[sbatch]\n#SBATCH --account=me # mine\n# a comment\n\n#SBATCH -p main\n[prologue]\n"
      "module load openmpi\n  [ -d /x ] && echo \"a # b = c\"\n# stays\n[launch]\ncommand = mpirun -n "
      "{ranks} "
      "{command}\n",
      "site.ini");
  EXPECT_THAT(site.sbatch, ElementsAre("#SBATCH --account=me # mine", "#SBATCH -p main"));
  EXPECT_THAT(site.prologue,
              ElementsAre("module load openmpi", "  [ -d /x ] && echo \"a # b = c\"", "# stays"));
  EXPECT_EQ(site.launch, "mpirun -n {ranks} {command}");
  EXPECT_FALSE(site.signal_steps) << "ranks of mpirun are no steps";
}

TEST(Site, AllFaultsAreNamedAtOnceWithTheirLinesAndTheNearestKey) {
  const auto faults = site_faults(
      "[sbatch]\n--account=me\n#SBATCH --time=3\n#SBATCH -N2\n[prolog]\nmodule load x\n[launch]\ncomand = x\n"
      "lead = 0\nrequeue = maybe\nrequeue = true\n[limits]\ntime = soon\narray = 1.5\nnonsense\n");
  EXPECT_THAT(
      faults,
      ElementsAre(
          "'--account=me': must be a line #SBATCH --OPTION (site.ini, line 2)",
          "--time: not here, set by limits.time (site.ini, line 3)",
          "-N2: not here, set by `sluice submit --ranks` and launch.ranks_per_node (site.ini, line 4)",
          "[prolog]: unknown section; did you mean prologue? (site.ini, line 5)",
          "'module load x': neither [section] nor key = value (site.ini, line 6)",
          "launch.comand: unknown key; did you mean launch.command? (site.ini, line 8)",
          "launch.lead = 0: must be a whole number, 1 ... 65535 (site.ini, line 9)",
          "launch.requeue = maybe: must be true or false (site.ini, line 10)",
          "launch.requeue: given twice (site.ini, lines 10 and 11)",
          "limits.time = soon: must be a time as Slurm writes it: minutes, H:MM:SS or D-HH:MM:SS (site.ini, "
          "line 13)",
          "limits.array = 1.5: must be a whole number, 1 ... 4000000 (site.ini, line 14)",
          "'nonsense': neither [section] nor key = value (site.ini, line 15)"));
}

TEST(Site, ALaunchTemplateHasItsPlaceholders) {
  EXPECT_THAT(site_faults("[launch]\ncommand = srun {rank} {command}\n"),
              ElementsAre(AllOf(HasSubstr("{rank} is no placeholder"), HasSubstr("did you mean {ranks}?"))));
  EXPECT_THAT(site_faults("[launch]\ncommand = srun sluice\n"),
              ElementsAre(HasSubstr("must hold {command}")));
  EXPECT_THAT(site_faults("[launch]\ncommand = srun --x=${HOME} {command}\n"), ElementsAre());
  EXPECT_EQ(fill_launch("a -n {ranks} -N {nodes} -p {ranks_per_node} ${X} {command}",
                        {.ranks = 8, .nodes = 2, .ranks_per_node = 4, .command = "c {ranks}"}),
            "a -n 8 -N 2 -p 4 ${X} c {ranks}");
}

TEST(Site, SettingsThatDoNotGoTogether) {
  EXPECT_THAT(site_faults("[launch]\ncommand = mpirun {command}\nsignal = steps\n"),
              ElementsAre(AllOf(StartsWith("launch.signal = steps"), HasSubstr("allowed is script"))));
  EXPECT_THAT(site_faults("[launch]\nlead = 600\n[limits]\ntime = 10\n"),
              ElementsAre(AllOf(HasSubstr("launch.lead = 600"), HasSubstr("limits.time = 10"))));
}

TEST(Site, TimeLimitsAreReadAsSlurmReadsThem) {
  const std::vector<std::pair<std::string, std::int64_t>> times{{"90", 5400},      {"1:30", 90},
                                                                {"1:30:00", 5400}, {"1-12", 129600},
                                                                {"1-0:30", 88200}, {"2-00:00:01", 172801}};
  for (const auto& [text, seconds] : times) EXPECT_EQ(parse_time_limit(text), seconds) << text;
  for (const std::string text : {"", "0", "-1", "1h", "1:2:3:4", "infinite", "1-", "99999999999999999999"}) {
    EXPECT_EQ(parse_time_limit(text), std::nullopt) << text;
  }
}

TEST(BatchScript, HasTheSitesLinesTheSignalAndTheCommand) {
  auto site = parse_site(
      "[sbatch]\n#SBATCH --account=me\n[prologue]\nmodule load openmpi\n[launch]\nranks_per_node = 2\n",
      "site.ini");
  const auto script = batch_script(site, job_of("/scratch/mine"));
  EXPECT_THAT(script, StartsWith("#!/usr/bin/env bash\n"));
  for (const std::string line :
       {"#SBATCH --nodes=2", "#SBATCH --ntasks=4", "#SBATCH --ntasks-per-node=2", "#SBATCH --time=1:00:00",
        "#SBATCH --signal=USR1@120", "#SBATCH --requeue", "#SBATCH --open-mode=append",
        "#SBATCH --output=\"/scratch/mine/submit.log\"", "#SBATCH --chdir=\"/home/me\"",
        "#SBATCH --account=me", "module load openmpi", "sluice_requeue=yes", "run=\"/scratch/mine\"",
        "sluice_job \"$run\" srun --mpi=pmix --ntasks=4 \"/opt/sluice\" train --config "
        "\"$run/submit.ini\""}) {
    EXPECT_THAT(script, HasSubstr("\n" + line + "\n"));
  }
  EXPECT_LT(script.rfind("#SBATCH "), script.find("module load"))
      << "Slurm reads options up to the first command";
  EXPECT_THAT(script, HasSubstr(content(kRoot / "launch/slurm/job.sh")));
}

TEST(BatchScript, AScriptThatGetsTheSignalItselfAndMayNotBeRequeued) {
  const auto site = parse_site(
      "[launch]\ncommand = mpirun {command}\nrequeue = false\nlead = 60\nranks_per_node = 4\n", "site.ini");
  const auto script = batch_script(site, job_of("/scratch/mine"));
  EXPECT_THAT(script, AllOf(HasSubstr("#SBATCH --signal=B:USR1@60\n"), HasSubstr("#SBATCH --no-requeue\n"),
                            HasSubstr("\nsluice_requeue=no\n"), Not(HasSubstr("#SBATCH --requeue"))));
}

TEST(BatchScript, AnElementOfAnArrayHasItsOwnRunAndLog) {
  auto job = job_of("/scratch/sweep");
  job.array = true;
  job.ranks = 1;
  const auto script = batch_script(Site{}, job);
  EXPECT_THAT(script, HasSubstr("run=\"/scratch/sweep/$((${1:-0} + SLURM_ARRAY_TASK_ID))\"\n"));
  EXPECT_THAT(script, HasSubstr("exec >>\"$run/submit.log\" 2>&1\n"));
}

TEST(BatchScript, RanksFillNodes) {
  EXPECT_EQ(nodes_for(1, 4), 1);
  EXPECT_EQ(nodes_for(4, 4), 1);
  EXPECT_EQ(nodes_for(12, 4), 3);
  EXPECT_THAT(faults_of([] { (void)nodes_for(6, 4); }),
              ElementsAre(AllOf(HasSubstr("--ranks = 6"), HasSubstr("near are 4 and 8"))));
}

TEST(SbatchCalls, OneJobIsOneCall) {
  const auto calls = sbatch_calls(Site{}, "/run/submit.sbatch", 0);
  ASSERT_THAT(calls, SizeIs(1));
  EXPECT_THAT(calls[0].words, ElementsAre("sbatch", "--parsable", "/run/submit.sbatch"));
  EXPECT_FALSE(calls[0].waits);
}

TEST(SbatchCalls, AnArrayIsSplitAtTheSitesLimit) {
  Site site;
  site.array = 5;
  auto calls = sbatch_calls(site, "s", 12);
  ASSERT_THAT(calls, SizeIs(3));
  EXPECT_THAT(calls[0].words, ElementsAre("sbatch", "--parsable", "--array=0-4", "s", "0"));
  EXPECT_THAT(calls[1].words, ElementsAre("sbatch", "--parsable", "--array=0-4", "s", "5"));
  EXPECT_THAT(calls[2].words, ElementsAre("sbatch", "--parsable", "--array=0-1", "s", "10"));
  EXPECT_FALSE(calls[1].waits);
  site.running = 2;  // of all elements: parts run one after the other
  calls = sbatch_calls(site, "s", 6);
  ASSERT_THAT(calls, SizeIs(2));
  EXPECT_THAT(calls[0].words, ElementsAre("sbatch", "--parsable", "--array=0-4%2", "s", "0"));
  EXPECT_FALSE(calls[0].waits);
  EXPECT_TRUE(calls[1].waits);
  EXPECT_THAT(with_dependency(calls[1].words, "12"),
              ElementsAre("sbatch", "--dependency=afterany:12", "--parsable", "--array=0-0%2", "s", "5"));
  EXPECT_THAT(sbatch_calls(site, "s", 5), SizeIs(1));
}

TEST(Sweeps, ListsAndRangesGiveEveryCombination) {
  EXPECT_THAT(parse_sweep("optim.lr=1e-3,3e-4").values, ElementsAre("1e-3", "3e-4"));
  EXPECT_THAT(parse_sweep("run.seed=8..10").values, ElementsAre("8", "9", "10"));
  EXPECT_THAT(parse_sweep("data.corpus=a:3,b:1;c").values, ElementsAre("a:3,b:1", "c"));
  EXPECT_THAT(parse_sweep("data.corpus=a:3,b:1;").values, ElementsAre("a:3,b:1"));
  EXPECT_THAT(parse_sweep("data.corpus=../a,../b").values, ElementsAre("../a", "../b"));
  EXPECT_THAT(parse_sweep("data.corpus=../a").values, ElementsAre("../a"));
  EXPECT_THAT(combinations({parse_sweep("a=1,2"), parse_sweep("b=x,y")}),
              ElementsAre(ElementsAre("--a=1", "--b=x"), ElementsAre("--a=1", "--b=y"),
                          ElementsAre("--a=2", "--b=x"), ElementsAre("--a=2", "--b=y")));
  for (const std::string word : {"run.seed", "=1", "run.seed=", "run.seed=3..1", "run.seed=a..b",
                                 "run.seed=1..1e9", "data.corpus=a:3,b:1"}) {
    EXPECT_THAT(faults_of([&] { (void)parse_sweep(word); }), ElementsAre(HasSubstr("--array " + word)))
        << word;
  }
}

TEST(PlainPath, RefusesWhatSlurmOrTheShellWouldReadOtherwise) {
  EXPECT_TRUE(is_plain_path("/scratch/my runs/a-1_b.c"));
  for (const std::string path : {"a\"b", "a'b", "a\\b", "a%b", "a$b", "a`b", "a\nb"})
    EXPECT_FALSE(is_plain_path(path));
}

TEST(Spawn, WordsOutputAndCodeWithoutAShell) {
  const auto echoed = spawn({"printf", "%s|", "a b", "$HOME", "*"});
  EXPECT_EQ(echoed.output, "a b|$HOME|*|");
  EXPECT_EQ(echoed.code, 0);
  EXPECT_EQ(spawn({"sh", "-c", "exit 3"}).code, 3);
  EXPECT_EQ(spawn({"sh", "-c", "kill -9 $$"}).code, 137);
  EXPECT_THROW((void)spawn({"no-such-program-here"}), std::system_error);
}

TEST(Spawn, TheEnvironmentIsTheOneOfTheStart) {
  ASSERT_EQ(setenv("SLUICE_SET_LATER", "1", 1), 0);
  EXPECT_EQ(spawn({"sh", "-c", "echo \"${SLUICE_SET_LATER:-unset}\""}).output, "unset\n");
  EXPECT_NE(spawn({"sh", "-c", "echo \"$PATH\""}).output, "\n");
}

TEST(Configs, EveryCommittedSiteFileIsValid) {
  std::int64_t files = 0;
  for (const auto& entry : std::filesystem::directory_iterator(kRoot / "configs" / "clusters")) {
    ++files;
    EXPECT_THAT(faults_of([&] { (void)parse_site(content(entry.path()), entry.path().string()); }),
                ElementsAre());
  }
  EXPECT_GE(files, 1);
}

}  // namespace
}  // namespace sluice::cli
