#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "trainer/cli/number.h"
#include "trainer/train/options.h"

namespace sluice::cli {

/// What a change of a key means when a run resumes. kSchedule is train.steps: see compare_for_resume().
enum class OnResume { kFree, kWarn, kRefuse, kSchedule };

/// One key: the only place that knows its name, member, default, range and help.
struct OptionRow {
  std::string key;               ///< "optim.lr"
  std::string type;              ///< "float", "integer", "text", "true|false", or the choices "fp32|fp64"
  std::string range;             ///< as the reference prints it: "> 0", "1 ... 10^9"
  std::optional<Bounds> bounds;  ///< of a numeric key; a list of numbers keeps them for each
  std::string unit;              ///< "steps", "sequences", "" ...
  std::string help;
  std::string default_text;  ///< as the reference prints it
  OnResume on_resume = OnResume::kFree;
  std::function<std::string(const train::RunOptions&)> get;
  /// Parses and range-checks; returns the fault ("" when there is none).
  std::function<std::string(train::RunOptions&, const std::string& value)> set;
};

[[nodiscard]] const std::vector<OptionRow>& option_table();

/// Command line over files (a later file wins over an earlier one) over defaults; then cross-field checks.
/// Throws train::InputError with all faults at once: unknown keys with the nearest known one, bad values,
/// ranges, combinations. `arguments`: "--section.key=value", "--section.key value" and "--config FILE...",
/// nothing else.
/// `defaults`: INI text that stands in for the table's defaults, below every file.
[[nodiscard]] train::RunOptions parse_run_options(const std::vector<std::string>& arguments,
                                                  const std::string& defaults = "");
/// The same from the text of an INI file: parse_run_options_text(dump_ini(x)) == x.
[[nodiscard]] train::RunOptions parse_run_options_text(const std::string& ini, const std::string& file_name);
/// [model] of a settings file, which need not be whole: run.dir and the like may be missing.
[[nodiscard]] model::ModelOptions parse_model_options(const std::string& ini, const std::string& file_name);
/// The text of a settings file that need not be whole, and `arguments` ("--section.key=value") over it:
/// run.dir and the like may be missing, and of combinations only those within [model] are judged.
[[nodiscard]] train::RunOptions parse_partial_options(const std::string& ini, const std::string& file_name,
                                                      const std::vector<std::string>& arguments = {});
/// The text of the settings file that --model names; throws train::InputError where it cannot be read.
[[nodiscard]] std::string read_model_file(const std::string& file);
/// INI text of every key.
[[nodiscard]] std::string dump_ini(const train::RunOptions& options);

struct ResumeDifferences {
  std::vector<std::string> warnings;
  std::vector<std::string> refusals;
};
/// How `now` differs from what the checkpoint was written with, by each row's on_resume. `step`: steps that
/// the checkpoint has done. train.steps may change where every step taken would have had the same learning
/// rate: under constant and noam, and under wsd while no step has decayed yet in either plan.
[[nodiscard]] ResumeDifferences compare_for_resume(const train::RunOptions& before,
                                                   const train::RunOptions& now, std::int64_t step);

/// `sluice train --help`'s text, and docs/reference.md's table.
[[nodiscard]] std::string option_help();
[[nodiscard]] std::string option_reference_markdown();

}  // namespace sluice::cli
