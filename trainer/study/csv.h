#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace sluice::study {

/// A CSV file: every field as text, every row as long as `columns`.
struct Table {
  std::vector<std::string> columns;
  std::vector<std::vector<std::string>> rows;
  std::string source = {};               ///< the file that it was read from; "" where it was made
  std::vector<std::int64_t> lines = {};  ///< of the file, on which each row begins, from 1; empty where made

  [[nodiscard]] std::optional<std::size_t> find(std::string_view column) const;
  [[nodiscard]] bool has(std::string_view column) const { return find(column).has_value(); }
  /// The field, or "" where there is no such column.
  [[nodiscard]] const std::string& text(std::size_t row, std::string_view column) const;
  /// The field as a finite number; NaN where it is empty or there is no such column. Throws train::InputError
  /// naming place() and the field for anything else.
  [[nodiscard]] double number(std::size_t row, std::string_view column) const;
  /// "points.csv, line 3, column loss", for faults.
  [[nodiscard]] std::string place(std::size_t row, std::string_view column) const;
};

/// RFC 4180 with a header line: fields by commas, quoted where they hold commas, quotes (doubled) or line
/// ends; lines end in CR LF or LF, the last one perhaps in neither. A byte order mark and lines without any
/// text are passed over, and spaces belong to their field. Throws train::InputError with all faults of the
/// file, each with its line and column: a row of another length, a quote out of place or never closed, a
/// column without a name or twice, no header.
[[nodiscard]] Table read_csv(const std::filesystem::path& file);
/// The same of text; `source` is what faults call it.
[[nodiscard]] Table parse_csv(std::string_view text, const std::string& source);

/// The table as read_csv() reads it. Lines end in LF, as those of all text files here.
[[nodiscard]] std::string csv_text(const Table& table);

}  // namespace sluice::study
