#include "trainer/train/import_export.h"

#include <ATen/ops/equal.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <map>
#include <utility>

#include "trainer/model/positions.h"
#include "trainer/train/errors.h"

namespace sluice::train {
namespace {

/// labml's own number of rows; more where a model has more positions.
constexpr std::int64_t kTableRows = 5000;
/// Of sines in single precision, thousands of positions on; another table is off by far more.
constexpr double kTableError = 1e-2;

/// As the layout's tables have it.
std::string bare_name(const std::string& name, const std::string& prefix) {
  return name.starts_with(prefix) ? name.substr(prefix.size()) : name;
}

std::string shape_text(const std::vector<std::int64_t>& shape) {
  return fmt::format("[{}]", fmt::join(shape, ", "));
}

std::vector<std::int64_t> without_ones(std::vector<std::int64_t> shape) {
  std::erase(shape, 1);
  return shape;
}

/// One head's dimension may be missing.
bool fits(const MappedTensor& mapped, const std::vector<std::int64_t>& shape) {
  if (shape == mapped.their_shape) return true;
  return mapped.form == Form::kHeads && without_ones(shape) == without_ones(mapped.their_shape);
}

class Import {
 public:
  Import(const SafetensorsFile& file, const Layout& layout, Replica& into)
      : file_(file), layout_(layout), into_(into) {
    for (const StoredTensor& stored : file.tensors()) {
      if (is_moment(stored.name)) continue;  // a checkpoint's own file is taken, too
      if (!left_.emplace(bare_name(stored.name, layout.prefix), &stored).second)
        fault("tensor {}: stands twice, with and without the prefix {}", stored.name, layout.prefix);
    }
  }

  void run() {
    auto unfit = layout_faults(layout_, into_.options());
    if (!unfit.empty()) throw InputError(std::move(unfit));
    take_all();
    if (!faults_.empty()) throw InputError(std::move(faults_));
  }

 private:
  template <typename... Values>
  void fault(fmt::format_string<Values...> text, Values&&... values) {
    faults_.push_back(fmt::format(text, std::forward<Values>(values)...));
  }

  void take_all() {
    const auto specs = model::parameter_specs(into_.options(), into_.vocabulary_size());
    const auto mapped = map_tensors(layout_, into_.options(), specs);
    for (std::size_t i = 0; i < mapped.size(); ++i)
      take(mapped[i], into_.layout().view(into_.parameters(), static_cast<std::int64_t>(i)));
    if (const StoredTensor* table = remove(layout_.sinusoids)) check_table(*table);
    const std::string head_name = layout_.bare.empty() ? "" : layout_.bare + ".weight";
    if (const StoredTensor* head = remove(head_name)) check_tied(*head);
    for (const auto& [name, stored] : left_) {
      const bool holds_nothing = std::ranges::any_of(
          layout_.ignored, [&](const std::string& pattern) { return matches(name, pattern); });
      if (!holds_nothing) fault("tensor {}: is not expected, the model has no such parameter", stored->name);
    }
  }

  const StoredTensor* remove(const std::string& name) {
    const auto found = left_.find(name);
    if (name.empty() || found == left_.end()) return nullptr;
    const StoredTensor* const stored = found->second;
    left_.erase(found);
    return stored;
  }

  void take(const MappedTensor& mapped, const at::Tensor& into) {
    const std::string name = bare_name(mapped.theirs, layout_.prefix);
    const StoredTensor* const stored = remove(name);
    if (stored == nullptr) {
      fault("tensor {}: is missing ({} of the model, of shape {})", name, mapped.ours,
            shape_text(mapped.their_shape));
    } else if (!fits(mapped, stored->shape)) {
      fault("tensor {}: has shape {}, the model needs {}", stored->name, shape_text(stored->shape),
            shape_text(mapped.their_shape));
    } else if (!at::isFloatingType(stored->dtype)) {
      fault("tensor {}: is of type {}, not a floating one", stored->name, at::toString(stored->dtype));
    } else {
      const at::Tensor value = file_.read(*stored);
      into.copy_(mapped.form == Form::kTransposed && value.dim() == 2 ? value.t()
                                                                      : value.view(mapped.our_shape));
    }
  }

  /// What the model computes itself must be what the file has.
  void check_table(const StoredTensor& table) {
    const auto& options = into_.options();
    const bool shaped = table.shape.size() == 3 && table.shape[0] >= options.seq_len && table.shape[1] == 1 &&
                        table.shape[2] == options.d_model && at::isFloatingType(table.dtype);
    if (!shaped) {
      fault("tensor {}: has shape {}, the model needs [{} or more, 1, {}]", table.name,
            shape_text(table.shape), options.seq_len, options.d_model);
      return;
    }
    const at::Tensor rows = file_.read(table).squeeze(1).narrow(0, 0, options.seq_len).to(at::kDouble);
    const at::Tensor expected = model::sinusoids(options.seq_len, options.d_model, at::kDouble);
    if (!(rows.sub(expected).abs().max().item<double>() < kTableError))
      fault("tensor {}: is not the table of sinusoids that the model adds", table.name);
  }

  /// Of a tied model: a second copy of the embedding.
  void check_tied(const StoredTensor& head) {
    const at::Tensor embedding = into_.layout().view(into_.parameters(), 0);
    if (head.shape != embedding.sizes().vec() ||
        !at::equal(file_.read(head).to(embedding.scalar_type()), embedding))
      fault("tensor {}: differs from the embedding, but model.tied = true shares them", head.name);
  }

  const SafetensorsFile& file_;
  const Layout& layout_;
  Replica& into_;
  std::map<std::string, const StoredTensor*> left_;  ///< by name without prefix: not used so far
  std::vector<std::string> faults_;
};

}  // namespace

std::optional<std::int64_t> stored_vocabulary(const SafetensorsFile& file, const Layout& layout) {
  const auto row = std::ranges::find(layout.rows, "embed", &LayoutRow::ours);
  const std::string name = (row == layout.rows.end() ? "embed" : row->theirs) + ".weight";
  const auto found = std::ranges::find_if(file.tensors(), [&](const StoredTensor& one) {
    return bare_name(one.name, layout.prefix) == name && one.shape.size() == 2;
  });
  return found == file.tensors().end() ? std::nullopt : std::optional(found->shape[0]);
}

void import_weights(const SafetensorsFile& file, const Layout& layout, Replica& into) {
  Import(file, layout, into).run();
}

std::vector<NamedTensor> export_weights(const Replica& replica, const Layout& layout) {
  const auto& options = replica.options();
  if (auto faults = layout_faults(layout, options); !faults.empty()) throw InputError(std::move(faults));
  const auto specs = model::parameter_specs(options, replica.vocabulary_size());
  std::vector<NamedTensor> tensors;
  std::int64_t index = 0;
  for (const MappedTensor& mapped : map_tensors(layout, options, specs)) {
    const at::Tensor value = replica.layout().view(replica.parameters(), index++);
    const bool turned = mapped.form == Form::kTransposed && value.dim() == 2;
    tensors.push_back({mapped.theirs, (turned ? value.t() : value.view(mapped.their_shape)).contiguous()});
  }
  if (!layout.sinusoids.empty()) {
    const at::Tensor table =
        model::sinusoids(std::max(kTableRows, options.seq_len), options.d_model, at::kFloat);
    tensors.push_back({layout.sinusoids, table.unsqueeze(1)});
  }
  return tensors;
}

}  // namespace sluice::train
