#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "trainer/model/options.h"
#include "trainer/model/parameters.h"

// How other programs name and shape the parameters of the models that we train: one table for each, read in
// both directions.

namespace sluice::train {

/// How a tensor lies in another layout.
enum class Form {
  kSame,
  kTransposed,  ///< weights of products are [in, out]
  kHeads,       ///< a dimension of heads stands in front, of one head too
  kConv1d,      ///< a square of weights is [out, in, 1]; of one head alone
};

/// Parameters STEM.weight and STEM.bias in both. A `*` stands for the number of a block.
struct LayoutRow {
  std::string ours;
  std::string theirs;
  Form form = Form::kSame;
};

struct Layout {
  std::string name;
  std::vector<LayoutRow> rows;         ///< empty: our own names
  std::string prefix{};                ///< a file may have it before its names
  std::string written_prefix{};        ///< before names that are written
  std::string bare{};                  ///< the stem that is written without
  std::vector<std::string> ignored{};  ///< tensors that hold no parameter, `*` as in rows
  std::string sinusoids{};             ///< a table [most, 1, d] of positions that the model computes
};

/// "sluice", "labml", "g-mlp-pytorch", "g-mlp-pytorch-0.0", "gpt2".
[[nodiscard]] std::vector<std::string> layout_names();
/// `name` is one of layout_names().
[[nodiscard]] const Layout& find_layout(std::string_view name);
/// Of the layouts that a file of `name` may have (g-mlp-pytorch renamed its tensors twice), the one with the
/// most of its tensors in `names`.
[[nodiscard]] const Layout& guess_layout(std::string_view name, const std::vector<std::string>& names);

/// Settings of the model that make of the layout's tensors another model than the layout's program does, a
/// line each. Settings of training alone (dropout, initial values) do not count.
[[nodiscard]] std::vector<std::string> layout_faults(const Layout& layout,
                                                     const model::ModelOptions& options);

/// One parameter in both layouts.
struct MappedTensor {
  std::string ours;
  std::vector<std::int64_t> our_shape;
  std::string theirs;
  std::vector<std::int64_t> their_shape;
  Form form = Form::kSame;
};

/// Of each of `specs`, in their order. `options` has no layout_faults.
[[nodiscard]] std::vector<MappedTensor> map_tensors(const Layout& layout, const model::ModelOptions& options,
                                                    const std::vector<model::ParameterSpec>& specs);

/// Whether `name` is `pattern`, with a number at each `*`.
[[nodiscard]] bool matches(std::string_view name, std::string_view pattern);

}  // namespace sluice::train
