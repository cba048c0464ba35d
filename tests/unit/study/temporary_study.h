#pragma once

#include <fmt/format.h>

#include <string>
#include <vector>

#include "tests/unit/study/temporary_run.h"

/// A study directory of a test, removed with it.
class TemporaryStudy : public TemporaryRun {
 public:
  /// Writes a file, making its folders.
  void put(const std::string& file, const std::string& text) const {
    std::filesystem::create_directories((path() / file).parent_path());
    write(file, text);
  }

  /// study.json of the given runs, each a JSON object.
  void put_study(const std::string& kind, const std::vector<std::string>& runs) const {
    std::string list;
    for (const auto& run : runs) list += (list.empty() ? "" : ",") + run;
    put("study.json",
        fmt::format(R"json({{"format":"sluice-study","version":1,"name":"tiny <study>","kind":"{}",)json"
                    R"json("program":"0.1.0 (commit aaaaaaaaaaaa)","runs":[{}]}})json",
                    kind, list));
    put("study.ini", "[study]\nkind = " + kind + "\n");
  }

  /// A run's line in study.json.
  [[nodiscard]] static std::string run(const std::string& id, const std::string& family,
                                       const std::string& role, const std::string& status,
                                       const std::string& more = "") {
    return fmt::format(R"({{"id":"{}","name":"{} {}","family":"{}","model":"s","role":"{}","status":"{}")"
                       R"(,"directory":"elsewhere/{}","params":1000000,"values":{{"optim.lr":"0.001"}}{}}})",
                       id, family, id, family, role, status, id, more);
  }

  /// A run directory: steps of 100 tokens and 0.5 s, their losses as given.
  void put_run(const std::string& directory, std::int64_t first_step, const std::vector<double>& losses,
               const std::string& settings = "") const {
    std::string text;
    for (std::size_t i = 0; i < losses.size(); ++i) {
      const auto step = first_step + static_cast<std::int64_t>(i);
      text += fmt::format(R"({{"kind":"train","step":{},"tokens":{},"loss":{},"lr":0.001,"grad_norm":1,)"
                          R"("tokens_per_s":200,"tokens_per_s_per_gpu":100,"flops_per_s":60000,"step_s":0.5,)"
                          R"("data_wait_s":0,"comm_exposed_s":0}})"
                          "\n",
                          step, 100 * step, losses[i]);
    }
    put(directory + "/metrics.jsonl", text);
    put(directory + "/resolved.ini",
        "# sluice     0.1.0 (commit aaaaaaaaaaaa)\n# HDF5       1.10.8\n[run]\ndir = " + directory +
            "\nseed = 1\n[data]\ncorpus = corpora/a\n" + settings);
    put(directory + "/checkpoints/latest/manifest.json",
        R"({"device":"NVIDIA H200","corpus_fingerprint":"0123456789abcdef","world_size":2})");
  }
};
