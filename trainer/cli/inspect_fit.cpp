#include "trainer/cli/inspect_fit.h"

#include <fmt/format.h>

#include <utility>

#include "trainer/cli/inspect_model.h"
#include "trainer/cli/terminal.h"

namespace sluice::cli {
namespace {

constexpr std::int64_t kTile = 128;
constexpr std::int64_t kFirst = 512;

std::vector<FitWay> ways_of(const model::ModelOptions& model) {
  std::vector<FitWay> ways{{.sp = 1, .mode = ""}};
  if (model.kind == "mixer" || model.token_shift > 0 || model.dropout > 0) return ways;
  for (const std::int64_t sp : {2, 4, 8}) {
    const bool transformer = model.kind == "transformer";
    if (transformer ? model.heads % sp == 0 : model.spatial_heads == 1) ways.push_back({sp, "alltoall"});
    ways.push_back({sp, transformer ? "rowshard" : "ring"});
  }
  return ways;
}

/// Bytes of one rank; none for more ranks than tiles.
std::optional<std::int64_t> bytes_at(train::RunOptions options, std::int64_t vocabulary_size,
                                     std::int64_t rows, const FitWay& way, std::int64_t positions) {
  if (positions < way.sp) return std::nullopt;
  options.model.seq_len = positions;
  options.parallel.sp = way.sp;
  options.parallel.sp_mode = way.sp == 1 ? "auto" : way.mode;
  return rank_memory(options, vocabulary_size, rows * way.sp).total();
}

/// Memory grows with n.
std::int64_t largest_that_fits(const train::RunOptions& options, std::int64_t vocabulary_size,
                               std::int64_t rows, const FitWay& way, std::int64_t memory) {
  std::int64_t fits = 0;
  std::int64_t beyond = kMostPositions / kTile + 1;
  while (beyond - fits > 1) {
    const std::int64_t middle = (fits + beyond) / 2;
    const auto bytes = bytes_at(options, vocabulary_size, rows, way, middle * kTile);
    (bytes && *bytes <= memory ? fits : beyond) = middle;
  }
  return fits * kTile;
}

std::string cell(const std::optional<std::int64_t>& bytes, std::int64_t memory) {
  if (!bytes) return "";
  return *bytes <= memory ? byte_text(*bytes) : fmt::format("({})", byte_text(*bytes));
}

}  // namespace

std::string FitWay::name() const { return mode.empty() ? "sp 1" : fmt::format("sp {} {}", sp, mode); }

FitTable fit_table(const train::RunOptions& options, std::int64_t vocabulary_size, std::int64_t rows,
                   std::int64_t memory) {
  FitTable table{.memory = memory, .ways = ways_of(options.model), .rows = {}, .largest = {}};
  bool any = true;
  for (std::int64_t positions = kFirst; positions <= kMostPositions && any; positions *= 2) {
    any = false;  // one line more than fits anywhere
    FitTable::Row row{.positions = positions, .bytes = {}};
    for (const FitWay& way : table.ways) {
      row.bytes.push_back(bytes_at(options, vocabulary_size, rows, way, positions));
      any = any || (row.bytes.back() && *row.bytes.back() <= memory);
    }
    table.rows.push_back(std::move(row));
  }
  for (const FitWay& way : table.ways)
    table.largest.push_back(largest_that_fits(options, vocabulary_size, rows, way, memory));
  return table;
}

std::string fit_text(const FitTable& table) {
  std::string text =
      fmt::format("memory of a rank by n, of {}; (does not fit)\n  {:>9}", byte_text(table.memory), "n");
  for (const FitWay& way : table.ways) text += fmt::format(" {:>14}", way.name());
  text += "\n";
  for (const FitTable::Row& row : table.rows) {
    text += fmt::format("  {:>9}", full_count(row.positions));
    for (const auto& bytes : row.bytes) text += fmt::format(" {:>14}", cell(bytes, table.memory));
    text += "\n";
  }
  text += fmt::format("  {:>9}", "largest");
  for (const std::int64_t positions : table.largest) text += fmt::format(" {:>14}", full_count(positions));
  return text + "\n";
}

}  // namespace sluice::cli
