#include "trainer/study/csv.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <fstream>
#include <limits>
#include <sstream>
#include <utility>

#include "trainer/train/errors.h"

namespace sluice::study {
namespace {

struct Record {
  std::int64_t line = 0;
  std::vector<std::string> fields;
};

/// Cuts text into records. One that a stray quote makes unreadable is left out, and reading goes on behind
/// it.
class Reader {
 public:
  Reader(std::string_view text, const std::string& source) : text_(text), source_(source) {
    if (text_.starts_with("\xEF\xBB\xBF")) at_ = 3;
  }

  /// Passes over lines without text; whether a record follows.
  bool more() {
    while (!done() && line_ends()) end_line();
    return !done();
  }

  Record next(std::vector<std::string>& faults) {
    Record record{line_, {}};
    const std::size_t faults_before = faults.size();
    bool more = true;
    while (more) {
      const std::size_t column = record.fields.size() + 1;
      std::string field = peek() == '"' ? quoted(record, faults) : plain();
      if (!done() && !field_ends() && faults.size() == faults_before) {
        faults.push_back(fmt::format(
            "{}, line {}, column {}: {}", source_, line_, column,
            peek() == '"' ? "a quote within a field: such a field stands in quotes, the quote twice"
                          : "text after the closing quote"));
      }
      while (!done() && !field_ends()) ++at_;
      record.fields.push_back(std::move(field));
      more = peek() == ',';
      if (more) ++at_;
    }
    end_line();
    if (faults.size() > faults_before) record.fields.clear();
    return record;
  }

 private:
  [[nodiscard]] bool done() const { return at_ >= text_.size(); }
  /// The next byte; 0 at the end.
  [[nodiscard]] char peek() const { return done() ? '\0' : text_[at_]; }
  [[nodiscard]] bool line_ends() const { return text_[at_] == '\n' || text_.substr(at_, 2) == "\r\n"; }
  [[nodiscard]] bool field_ends() const { return text_[at_] == ',' || line_ends(); }

  void end_line() {
    if (done()) return;
    at_ += text_[at_] == '\r' ? 2 : 1;
    ++line_;
  }

  std::string plain() {
    const std::size_t begin = at_;
    while (!done() && !field_ends() && text_[at_] != '"') ++at_;
    return std::string(text_.substr(begin, at_ - begin));
  }

  std::string quoted(const Record& record, std::vector<std::string>& faults) {
    std::string field;
    for (++at_; !done(); ++at_) {
      if (text_[at_] == '"') {
        ++at_;
        if (peek() != '"') return field;
      }
      if (text_[at_] == '\n') ++line_;
      field += text_[at_];
    }
    faults.push_back(fmt::format("{}, line {}, column {}: a quote is never closed", source_, record.line,
                                 record.fields.size() + 1));
    return field;
  }

  std::string_view text_;
  std::string source_;
  std::size_t at_ = 0;
  std::int64_t line_ = 1;
};

void check_header(const Table& table, std::int64_t line, std::vector<std::string>& faults) {
  const auto& columns = table.columns;
  for (std::size_t c = 0; c < columns.size(); ++c) {
    if (columns[c].empty()) {
      faults.push_back(fmt::format("{}, line {}, column {}: has no name", table.source, line, c + 1));
    } else if (*table.find(columns[c]) < c) {
      faults.push_back(fmt::format("{}, line {}, column {}: {} is the name of column {} too", table.source,
                                   line, c + 1, columns[c], *table.find(columns[c]) + 1));
    }
  }
}

bool needs_quotes(std::string_view field) { return field.find_first_of(",\"\r\n") != std::string_view::npos; }

void append_field(std::string_view field, std::string& out) {
  if (!needs_quotes(field)) {
    out += field;
    return;
  }
  out += '"';
  for (const char c : field) out += c == '"' ? std::string("\"\"") : std::string(1, c);
  out += '"';
}

void append_row(const std::vector<std::string>& fields, std::string& out) {
  const std::size_t start = out.size();
  for (std::size_t i = 0; i < fields.size(); ++i) {
    if (i > 0) out += ',';
    append_field(fields[i], out);
  }
  if (out.size() == start) out += "\"\"";  // one empty field: not a line without text
  out += '\n';
}

}  // namespace

std::optional<std::size_t> Table::find(std::string_view column) const {
  const auto found = std::find(columns.begin(), columns.end(), column);
  if (found == columns.end()) return std::nullopt;
  return static_cast<std::size_t>(found - columns.begin());
}

const std::string& Table::text(std::size_t row, std::string_view column) const {
  static const std::string kNothing;
  const auto at = find(column);
  return at ? rows.at(row).at(*at) : kNothing;
}

double Table::number(std::size_t row, std::string_view column) const {
  const std::string& field = text(row, column);
  if (field.empty()) return std::numeric_limits<double>::quiet_NaN();
  double value = 0.0;
  const char* end = field.data() + field.size();
  const auto result = std::from_chars(field.data(), end, value);
  if (result.ec != std::errc() || result.ptr != end || !std::isfinite(value))
    throw train::InputError(fmt::format("{}: '{}' is not a finite number", place(row, column), field));
  return value;
}

std::string Table::place(std::size_t row, std::string_view column) const {
  const std::string at =
      row < lines.size() ? fmt::format("line {}", lines[row]) : fmt::format("row {}", row + 1);
  return fmt::format("{}{}{}, column {}", source, source.empty() ? "" : ", ", at, column);
}

Table parse_csv(std::string_view text, const std::string& source) {
  Table table{.columns = {}, .rows = {}, .source = source};
  std::vector<std::string> faults;
  Reader reader(text, source);
  while (reader.more()) {
    Record record = reader.next(faults);
    if (record.fields.empty()) continue;
    if (table.columns.empty()) {
      table.columns = std::move(record.fields);
      check_header(table, record.line, faults);
    } else if (record.fields.size() != table.columns.size()) {
      faults.push_back(fmt::format("{}, line {}: {} fields, but the header has {} columns", source,
                                   record.line, record.fields.size(), table.columns.size()));
    } else {
      table.rows.push_back(std::move(record.fields));
      table.lines.push_back(record.line);
    }
  }
  if (table.columns.empty() && faults.empty())
    faults.push_back(source + ": has no line with the columns' names");
  if (!faults.empty()) throw train::InputError(faults);
  return table;
}

Table read_csv(const std::filesystem::path& file) {
  std::ifstream in(file, std::ios::binary);
  std::ostringstream text;
  if (!in || std::filesystem::is_directory(file) || !(text << in.rdbuf() || in.peek() == EOF))
    throw train::InputError(fmt::format("{}: cannot be read", file.string()));
  return parse_csv(text.str(), file.string());
}

std::string csv_text(const Table& table) {
  std::string out;
  append_row(table.columns, out);
  for (const auto& row : table.rows) append_row(row, out);
  return out;
}

}  // namespace sluice::study
