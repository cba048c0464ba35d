#include "trainer/cli/terminal.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <string_view>

namespace sluice::cli {
namespace {

constexpr std::int64_t kBarCells = 24;
constexpr double kSureShare = 0.05;  // before that, the time left is a guess nobody needs
constexpr std::chrono::milliseconds kBetweenRewrites{100};
constexpr std::chrono::seconds kBetweenLines{5};

}  // namespace

std::string short_count(double value) {
  if (value >= 1e12) return fmt::format("{:.2f}T", value / 1e12);
  if (value >= 1e9) return fmt::format("{:.2f}G", value / 1e9);
  if (value >= 1e6) return fmt::format("{:.2f}M", value / 1e6);
  if (value >= 1e4) return fmt::format("{:.1f}k", value / 1e3);
  return fmt::format("{:.0f}", value);
}

std::string full_count(std::int64_t value) {
  auto digits = fmt::format("{}", value);
  const std::int64_t first = value < 0 ? 1 : 0;
  for (auto at = static_cast<std::int64_t>(digits.size()) - 3; at > first; at -= 3) {
    digits.insert(static_cast<std::size_t>(at), 1, ',');
  }
  return digits;
}

std::string byte_text(std::int64_t bytes) {
  constexpr std::array<const char*, 4> kUnits = {"B", "KiB", "MiB", "GiB"};
  auto value = static_cast<double>(bytes);
  std::size_t unit = 0;
  for (; value >= 1024 && unit + 1 < kUnits.size(); ++unit) value /= 1024;
  return fmt::format("{:.4g} {}", value, kUnits[unit]);
}

std::string clock_text(double seconds) {
  const auto whole = static_cast<std::int64_t>(seconds);
  return fmt::format("{}:{:02}:{:02}", whole / 3600, whole / 60 % 60, whole % 60);
}

bool can_rewrite_lines(int stream) {
  if (const char* const told = std::getenv("SLUICE_PROGRESS")) return std::string_view(told) == "place";
  return std::getenv("OMPI_COMM_WORLD_SIZE") == nullptr && ::isatty(stream) != 0;
}

ProgressBar::ProgressBar() : on_terminal_(can_rewrite_lines(STDERR_FILENO)) {}

ProgressBar::~ProgressBar() {
  if (!phase_.empty() && done_ >= total_) {
    end_phase();
  } else if (on_terminal_ && !phase_.empty()) {
    std::fputs("\n", stderr);  // left in the middle: what comes next begins its own line
  }
}

void ProgressBar::end_phase() {
  if (phase_.empty()) return;
  const std::chrono::duration<double> took = Clock::now() - phase_start_;
  const auto text =
      fmt::format("{}: {} bytes in {:.1f} s", phase_, short_count(static_cast<double>(total_)), took.count());
  std::fprintf(stderr, on_terminal_ ? "\r%s\x1b[K\n" : "%s\n", text.c_str());
}

std::string ProgressBar::line(std::int64_t done, std::int64_t total) const {
  const double share =
      total > 0 ? std::clamp(static_cast<double>(done) / static_cast<double>(total), 0.0, 1.0) : 0.0;
  const std::chrono::duration<double> elapsed = Clock::now() - phase_start_;
  auto text = fmt::format("{}  {:3.0f}%", phase_, 100 * share);
  if (on_terminal_) {
    const auto cells = static_cast<std::int64_t>(share * kBarCells);
    text =
        fmt::format("{}  [{:#<{}}{:.<{}}] {:3.0f}%", phase_, "", cells, "", kBarCells - cells, 100 * share);
  }
  if (share >= kSureShare) text += "  ETA " + clock_text(elapsed.count() * (1 - share) / share);
  return text;
}

void ProgressBar::update(const std::string& phase, std::int64_t done, std::int64_t total) {
  const auto now = Clock::now();
  if (phase != phase_) {
    end_phase();
    phase_ = phase;
    phase_start_ = last_shown_ = now;
  }
  done_ = done;
  total_ = total;
  const auto pause = on_terminal_ ? kBetweenRewrites : std::chrono::milliseconds(kBetweenLines);
  if (now - last_shown_ < pause) return;
  last_shown_ = now;
  std::fprintf(stderr, on_terminal_ ? "\r%s\x1b[K" : "%s\n", line(done, total).c_str());
}

}  // namespace sluice::cli
