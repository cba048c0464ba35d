#include "dataio/documents.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <nlohmann/json.hpp>
#include <system_error>

#include "dataio/error.h"
#include "dataio/files.h"
#include "dataio/utf8.h"

namespace sluice::dataio {
namespace {

constexpr std::int64_t kLongestRecord = 1 << 26;
constexpr std::int64_t kNone = -1;

bool hidden(const std::filesystem::path& path) { return path.filename().native().starts_with('.'); }

bool blank(std::string_view line) { return line.find_first_not_of(" \t\r\n\f\v") == std::string_view::npos; }

/// Where to cut a document that does not fit: behind its last line end, else between two code points.
std::int64_t cut_point(std::string_view text) {
  const std::size_t newline = text.rfind('\n');
  if (newline != std::string_view::npos) return static_cast<std::int64_t>(newline) + 1;
  const auto size = static_cast<std::int64_t>(text.size());
  // The last code point may be incomplete: cut before it, unless that would leave nothing.
  const std::int64_t cut = character_border(text, size - 1);
  return cut > 0 ? cut : size;
}

void list_directory(const std::filesystem::path& directory, InputListing& listing) {
  using Iterator = std::filesystem::recursive_directory_iterator;
  std::error_code error;
  std::vector<std::filesystem::path> found;
  Iterator entry(directory, error);
  for (; !error && entry != Iterator(); entry.increment(error)) {
    std::error_code status_error;
    if (hidden(entry->path())) {
      if (entry->is_directory(status_error)) entry.disable_recursion_pending();
    } else if (entry->is_regular_file(status_error)) {
      found.push_back(entry->path());
    }
  }
  if (error) listing.faults.push_back({directory, "cannot list: " + error.message()});
  if (!error && found.empty()) listing.faults.push_back({directory, "has no files in it"});
  std::sort(found.begin(), found.end(), [](const auto& a, const auto& b) { return a.native() < b.native(); });
  for (auto& path : found) listing.files.push_back({std::move(path), 0});
}

}  // namespace

InputListing list_inputs(const std::vector<std::filesystem::path>& inputs) {
  InputListing listing;
  for (const auto& input : inputs) {
    std::error_code error;
    const auto status = std::filesystem::status(input, error);
    if (!std::filesystem::exists(status)) {
      listing.faults.push_back({input, "cannot open: " + error.message()});
    } else if (std::filesystem::is_directory(status)) {
      list_directory(input, listing);
    } else if (!std::filesystem::is_regular_file(status)) {
      listing.faults.push_back(
          {input, "is neither a file nor a directory (the text is read more than once)"});
    } else {
      listing.files.push_back({input, 0});
    }
  }
  for (auto& file : listing.files) {
    std::error_code error;
    file.bytes = static_cast<std::int64_t>(std::filesystem::file_size(file.path, error));
    if (error) listing.faults.push_back({file.path, "cannot read its size: " + error.message()});
    if (!error && ::access(file.path.c_str(), R_OK) != 0) {
      listing.faults.push_back({file.path, "cannot open: " + std::generic_category().message(errno)});
    }
  }
  return listing;
}

struct DocumentReader::Impl {
  std::vector<InputFile> files;
  DocumentKind kind = DocumentKind::kFiles;
  std::int64_t block_bytes = 0;

  std::size_t file_index = 0;
  std::optional<File> file;
  std::string buffer;         ///< what was read and not yet used up
  std::int64_t capacity = 0;  ///< how far the buffer is filled
  std::int64_t offset = 0;    ///< of the buffer's first byte in the file
  std::int64_t line = 1;      ///< number of the line that starts there (JSON lines)
  bool end_of_file = false;
  bool open_document = false;  ///< the buffer starts inside a document
  bool inside_line = false;    ///< ... and inside a line

  bool advance(TextBlock& block) {
    if (!file && !open_next()) return false;
    fill();
    const std::int64_t used = take(block);
    buffer.erase(0, static_cast<std::size_t>(used));
    offset += used;
    block.input_bytes += used;
    if (end_of_file && buffer.empty()) {
      file.reset();
      ++file_index;
    }
    return true;
  }

  bool open_next() {
    if (file_index == files.size()) return false;
    file.emplace(File::open_to_read(files[file_index].path));
    capacity = block_bytes;
    offset = 0;
    line = 1;
    end_of_file = open_document = inside_line = false;
    return true;
  }

  void fill() {
    const auto before = static_cast<std::int64_t>(buffer.size());
    if (before >= capacity || end_of_file) return;
    buffer.resize(static_cast<std::size_t>(capacity));
    const std::int64_t got = file->read(buffer.data() + before, capacity - before);
    buffer.resize(static_cast<std::size_t>(before + got));
    end_of_file = before + got < capacity;
  }

  std::int64_t take(TextBlock& block) {
    if (buffer.empty()) return 0;
    switch (kind) {
      case DocumentKind::kFiles:
        return take_part(block);
      case DocumentKind::kBlankLine:
        return take_paragraphs(block);
      case DocumentKind::kJsonLines:
        return take_records(block);
    }
    return 0;
  }

  void add(TextBlock& block, std::string_view text, std::int64_t place) {
    const auto begin = static_cast<std::int64_t>(block.text.size());
    block.text += text;
    block.pieces.push_back({.begin = begin,
                            .end = begin + static_cast<std::int64_t>(text.size()),
                            .start = open_document ? PieceStart::kContinues : PieceStart::kDocument,
                            .file = static_cast<std::int64_t>(file_index),
                            .place = place});
  }

  [[nodiscard]] std::string_view view(std::int64_t begin, std::int64_t end) const {
    return std::string_view(buffer).substr(static_cast<std::size_t>(begin),
                                           static_cast<std::size_t>(end - begin));
  }

  [[nodiscard]] std::int64_t size() const { return static_cast<std::int64_t>(buffer.size()); }

  /// The end of the line at `begin`, its newline included; kNone while the rest of it has not been read.
  [[nodiscard]] std::int64_t end_of_line(std::int64_t begin) const {
    const std::size_t newline = buffer.find('\n', static_cast<std::size_t>(begin));
    if (newline != std::string::npos) return static_cast<std::int64_t>(newline) + 1;
    return end_of_file ? size() : kNone;
  }

  /// The buffer's beginning as one more part of a document that does not end in it.
  std::int64_t take_part(TextBlock& block) {
    const std::int64_t cut = end_of_file ? size() : cut_point(buffer);
    add(block, view(0, cut), offset);
    open_document = true;
    inside_line = buffer[static_cast<std::size_t>(cut - 1)] != '\n';
    return cut;
  }

  /// Whole paragraphs; one that may go on behind the buffer stays for the next time, so that a paragraph is
  /// cut only when it is longer than a block, and then at places that depend on it alone.
  std::int64_t take_paragraphs(TextBlock& block) {
    std::int64_t begin = open_document ? 0 : kNone;
    std::int64_t at = 0;
    for (std::int64_t end = end_of_line(0); at < size() && end != kNone; end = end_of_line(at)) {
      const bool separates = !(at == 0 && inside_line) && blank(view(at, end));
      if (separates) {
        close_paragraph(block, begin, at);
        begin = kNone;
      } else if (begin == kNone) {
        begin = at;
      }
      at = end;
      if (at == size()) break;
    }
    if (end_of_file) {
      close_paragraph(block, begin, size());
      return size();
    }
    const std::int64_t kept = begin == kNone ? at : begin;
    return kept > 0 ? kept : take_part(block);
  }

  void close_paragraph(TextBlock& block, std::int64_t begin, std::int64_t end) {
    if (begin == kNone) return;
    if (end > begin) add(block, view(begin, end), offset + begin);
    open_document = inside_line = false;
  }

  std::int64_t take_records(TextBlock& block) {
    std::int64_t at = 0;
    for (std::int64_t end = end_of_line(0); at < size() && end != kNone;) {
      const std::string text = text_of_record(view(at, end));
      if (!text.empty()) add(block, text, line);
      ++line;
      at = end;
      end = at < size() ? end_of_line(at) : kNone;
    }
    if (at == 0) {
      if (capacity >= kLongestRecord) {
        fail("a record longer than " + std::to_string(kLongestRecord) + " bytes");
      }
      capacity *= 2;
    }
    return at;
  }

  [[nodiscard]] std::string text_of_record(std::string_view record) const {
    if (blank(record)) return {};
    try {
      const auto json = nlohmann::json::parse(record);
      if (!json.is_object() || !json.contains("text")) fail("not an object with a \"text\"");
      const auto& text = json.at("text");
      if (!text.is_string()) fail("its \"text\" is not a string");
      return text.get<std::string>();
    } catch (const nlohmann::json::parse_error& e) {
      fail(std::string("not JSON: ") + e.what());
    }
  }

  [[noreturn]] void fail(const std::string& reason) const {
    throw DataError(files[file_index].path, "line " + std::to_string(line) + ": " + reason);
  }
};

DocumentReader::DocumentReader(std::vector<InputFile> files, DocumentKind kind, std::int64_t block_bytes)
    : impl_(std::make_unique<Impl>()) {
  impl_->files = std::move(files);
  impl_->kind = kind;
  impl_->block_bytes = std::max<std::int64_t>(block_bytes, 8);
}

DocumentReader::~DocumentReader() = default;

std::optional<TextBlock> DocumentReader::next() {
  TextBlock block;
  bool more = true;
  while (more && static_cast<std::int64_t>(block.text.size()) < impl_->block_bytes)
    more = impl_->advance(block);
  if (!more && block.pieces.empty()) return std::nullopt;
  return block;
}

}  // namespace sluice::dataio
