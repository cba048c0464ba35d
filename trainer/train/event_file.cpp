#include "trainer/train/event_file.h"

#include <array>
#include <bit>
#include <chrono>
#include <cmath>

namespace sluice::train {
namespace {

constexpr std::size_t kLengthBytes = 8;
constexpr std::size_t kCrcBytes = 4;

// Field numbers of event.proto and summary.proto.
constexpr std::uint32_t kWallTime = 1, kStep = 2, kFileVersion = 3, kSummary = 5, kSessionLog = 7;  // Event
constexpr std::uint32_t kStatus = 1;                 // SessionLog
constexpr std::uint32_t kValue = 1;                  // Summary
constexpr std::uint32_t kTag = 1, kSimpleValue = 2;  // Summary.Value
constexpr std::uint64_t kStart = 1;                  // SessionStatus

// Wire types of Protocol Buffers.
constexpr std::uint32_t kVarint = 0, kFixed64 = 1, kBytes = 2, kFixed32 = 5;

std::array<std::uint32_t, 256> make_crc_table() {
  constexpr std::uint32_t kReversedPolynomial = 0x82F63B78;
  std::array<std::uint32_t, 256> table{};
  for (std::uint32_t byte = 0; byte < table.size(); ++byte) {
    std::uint32_t crc = byte;
    for (int bit = 0; bit < 8; ++bit) crc = (crc & 1) != 0 ? (crc >> 1) ^ kReversedPolynomial : crc >> 1;
    table[byte] = crc;
  }
  return table;
}

void put_little_endian(std::uint64_t value, std::size_t bytes, std::string& out) {
  for (std::size_t i = 0; i < bytes; ++i) out += static_cast<char>((value >> (8 * i)) & 0xFF);
}

void put_varint(std::uint64_t value, std::string& out) {
  for (; value >= 0x80; value >>= 7) out += static_cast<char>((value & 0x7F) | 0x80);
  out += static_cast<char>(value);
}

void put_key(std::uint32_t field, std::uint32_t wire_type, std::string& out) {
  put_varint(field << 3 | wire_type, out);
}

void put_bytes(std::uint32_t field, std::string_view bytes, std::string& out) {
  put_key(field, kBytes, out);
  put_varint(bytes.size(), out);
  out += bytes;
}

std::uint32_t masked_crc(std::string_view bytes) {
  constexpr std::uint32_t kMaskDelta = 0xA282EAD8;
  return std::rotr(crc32c(bytes), 15) + kMaskDelta;
}

/// An Event's first two fields; the third follows.
std::string begin_event(std::int64_t step) {
  const std::chrono::duration<double> now = std::chrono::system_clock::now().time_since_epoch();
  std::string event;
  put_key(kWallTime, kFixed64, event);
  put_little_endian(std::bit_cast<std::uint64_t>(now.count()), 8, event);
  put_key(kStep, kVarint, event);
  put_varint(static_cast<std::uint64_t>(step), event);
  return event;
}

/// Bytes of `content` that are whole records.
std::size_t whole_records(std::string_view content) {
  std::size_t at = 0;
  while (content.size() - at >= kLengthBytes + kCrcBytes) {
    std::uint64_t length = 0;
    for (std::size_t i = 0; i < kLengthBytes; ++i)
      length |= std::uint64_t{static_cast<unsigned char>(content[at + i])} << (8 * i);
    const std::size_t left = content.size() - at - kLengthBytes - kCrcBytes;
    if (left < kCrcBytes || length > left - kCrcBytes) break;
    const auto data = content.substr(at + kLengthBytes + kCrcBytes, length);
    if (content.substr(at, kLengthBytes + 2 * kCrcBytes + length) != tf_record(data)) break;
    at += kLengthBytes + 2 * kCrcBytes + length;
  }
  return at;
}

std::filesystem::path ready_file(const std::filesystem::path& directory) {
  auto path = directory / kEventFile;
  if (!std::filesystem::exists(path)) return path;
  const std::string content = read_file(path);
  const std::size_t whole = whole_records(content);
  if (whole < content.size()) truncate_file(path, static_cast<std::int64_t>(whole));
  return path;
}

}  // namespace

std::uint32_t crc32c(std::string_view bytes) {
  static const auto table = make_crc_table();
  std::uint32_t crc = 0xFFFFFFFF;
  for (const char byte : bytes) crc = (crc >> 8) ^ table[(crc ^ static_cast<unsigned char>(byte)) & 0xFF];
  return ~crc;
}

std::string tf_record(std::string_view data) {
  std::string record;
  put_little_endian(data.size(), kLengthBytes, record);
  put_little_endian(masked_crc(record), kCrcBytes, record);
  record += data;
  put_little_endian(masked_crc(data), kCrcBytes, record);
  return record;
}

EventFile::EventFile(const std::filesystem::path& directory, std::int64_t steps)
    : file_(ready_file(directory)) {
  if (std::filesystem::file_size(directory / kEventFile) == 0) {
    std::string version = begin_event(0);
    put_bytes(kFileVersion, "brain.Event:2", version);
    file_.append_bytes(tf_record(version));
  }
  std::string log;
  put_key(kStatus, kVarint, log);
  put_varint(kStart, log);
  std::string event = begin_event(steps + 1);
  put_bytes(kSessionLog, log, event);
  file_.append_bytes(tf_record(event));
}

void EventFile::append(std::int64_t step, const std::vector<Scalar>& scalars) {
  std::string summary;
  for (const Scalar& scalar : scalars) {
    if (!std::isfinite(scalar.value)) continue;
    std::string value;
    put_bytes(kTag, scalar.tag, value);
    put_key(kSimpleValue, kFixed32, value);
    put_little_endian(std::bit_cast<std::uint32_t>(static_cast<float>(scalar.value)), 4, value);
    put_bytes(kValue, value, summary);
  }
  if (summary.empty()) return;
  std::string event = begin_event(step);
  put_bytes(kSummary, summary, event);
  file_.append_bytes(tf_record(event));
}

}  // namespace sluice::train
