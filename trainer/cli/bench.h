#pragma once

#include <string>
#include <vector>

#include "parallel/communicator.h"
#include "trainer/cli/arguments.h"
#include "trainer/train/options.h"

// The parts of `sluice bench`, each in a file of its own.

namespace sluice::cli {

/// What follows `sluice bench` on a line of its own help.
struct BenchPart {
  std::string name;
  std::string summary;
  std::string help;
  int (*run)(const std::vector<std::string>& words, parallel::Communicator& world);
};

[[nodiscard]] BenchPart bench_step();
[[nodiscard]] BenchPart bench_loader();
[[nodiscard]] BenchPart bench_kernels();
[[nodiscard]] BenchPart bench_peak();
[[nodiscard]] BenchPart bench_generate();
[[nodiscard]] BenchPart bench_allreduce();
[[nodiscard]] BenchPart bench_exchange();
[[nodiscard]] BenchPart bench_calibrate();
[[nodiscard]] BenchPart bench_checkpoint();

/// Words of a benchmark that takes flags of its own beside the settings of a run.
struct BenchWords {
  std::vector<std::string> own;
  std::vector<std::string> settings;
};
[[nodiscard]] BenchWords split_words(const std::vector<Flag>& own, const std::vector<std::string>& words);

/// What data.corpus reads in a benchmark's settings where there is none.
inline constexpr const char* kNoCorpus = "(random tokens)";

/// Settings of a benchmark: those given, over defaults for what a run must name and a benchmark does not
/// need. data.corpus is empty where none was given.
[[nodiscard]] train::RunOptions bench_options(const std::vector<std::string>& settings);

}  // namespace sluice::cli
