#include "trainer/study/gnuplot.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <stdexcept>
#include <string_view>
#include <system_error>

#include "trainer/study/gnuplot_script.h"
#include "trainer/train/errors.h"
#include "trainer/train/scratch_directory.h"

namespace sluice::study {
namespace {

namespace fs = std::filesystem;

struct Role {
  int code;
  std::string name;
};

/// Codes of the drawn colours and the classes that they become.
std::vector<Role> roles() {
  constexpr int kColours = 6;
  std::vector<Role> all = {{kInk, "ink"}, {kGrid, "grid"}};
  for (int tint = 0; tint < kTints; ++tint)
    for (int colour = 1; colour <= kColours; ++colour)
      all.push_back({colour + 10 * tint,
                     tint == 0 ? fmt::format("{}", colour) : fmt::format("{} tint{}", colour, tint)});
  return all;
}

std::string read_text(const fs::path& file) {
  std::ifstream in(file, std::ios::binary);
  std::ostringstream text;
  text << in.rdbuf();
  return text.str();
}

void write_data(const fs::path& file, const Series& series) {
  std::ofstream out(file);
  out << data_text(series);
  if (!out) throw std::runtime_error(file.string() + ": cannot be written");
}

/// Runs gnuplot in `directory` on the file script.gp there.
void run_gnuplot(const std::string& program, const fs::path& directory) {
  const std::string script = (directory / "script.gp").string();
  const std::string log = (directory / "log").string();
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, log.c_str(), O_CREAT | O_WRONLY, 0600);
  std::string name = program;
  std::string argument = script;
  const std::array<char*, 3> words = {name.data(), argument.data(), nullptr};
  pid_t child = 0;
  const int code = posix_spawnp(&child, program.c_str(), &actions, nullptr, words.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  if (code == ENOENT || code == EACCES)
    throw train::InputError(fmt::format(
        "the report's charts are drawn by the program '{}', which was not found: load its module, or "
        "apt-get install gnuplot-nox; the figures themselves are in the run's metrics.jsonl",
        program));
  if (code != 0) throw std::system_error(code, std::generic_category(), "posix_spawnp " + program);
  int status = 0;
  while (waitpid(child, &status, 0) < 0)
    if (errno != EINTR) throw std::system_error(errno, std::generic_category(), "waitpid " + program);
  if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
    throw std::runtime_error(fmt::format("{} failed: {}", program, read_text(log)));
}

void replace_all(std::string& text, std::string_view from, std::string_view to) {
  for (std::size_t at = text.find(from); at != std::string::npos; at = text.find(from, at + to.size()))
    text.replace(at, from.size(), to);
}

/// Cuts every piece from `begin` to the end of the next `end`.
void cut_all(std::string& text, std::string_view begin, std::string_view end) {
  for (std::size_t at = text.find(begin); at != std::string::npos; at = text.find(begin, at)) {
    const std::size_t stop = text.find(end, at + begin.size());
    if (stop == std::string::npos) return;
    text.erase(at, stop + end.size() - at);
  }
}

/// Cuts groups that hold nothing: gnuplot writes one for every change of pen.
void cut_empty_groups(std::string& text) {
  for (std::size_t at = text.find("<g "); at != std::string::npos; at = text.find("<g ", at + 1)) {
    const std::size_t inside = text.find('>', at) + 1;
    const std::size_t next = text.find_first_not_of(" \n\t", inside);
    if (next != std::string::npos && text.compare(next, 4, "</g>") == 0) {
      text.erase(at, next + 4 - at);
      --at;
    }
  }
}

void name_colours(std::string& svg) {
  replace_all(svg, " class=\"gridline\"", "");
  for (const auto& role : roles()) {
    const std::string wide = fmt::format("rgb(  0,   0, {:3d})", role.code);
    const std::string tight = fmt::format("rgb(0,0,{})", role.code);
    for (const std::string& rgb : {wide, tight})
      for (const char quote : {'\'', '"'}) {
        replace_all(svg, fmt::format(" stroke={0}{1}{0}", quote, rgb),
                    fmt::format(" class=\"s-{}\"", role.name));
        replace_all(svg, fmt::format(" fill = {0}{1}{0}", quote, rgb),
                    fmt::format(" class=\"f-{}\"", role.name));
        replace_all(svg, fmt::format(" fill={0}{1}{0}", quote, rgb),
                    fmt::format(" class=\"f-{}\"", role.name));
        replace_all(svg, fmt::format(" color={0}{1}{0}", quote, rgb),
                    fmt::format(" class=\"c-{}\"", role.name));
      }
  }
  replace_all(svg, "fill=\"black\"", "class=\"f-ink\"");
}

/// gnuplot's file as an element for an HTML page: no prolog, no names that would collide with another
/// drawing's.
std::string inline_svg(std::string svg, const std::string& label, const Canvas& canvas) {
  svg.erase(0, svg.find("<g id=\"gnuplot_canvas\">"));
  cut_all(svg, "<defs>", "</defs>");
  cut_all(svg, "<title>", "</title>");
  cut_all(svg, " id=\"", "\"");
  replace_all(svg, "xlink:href='#gpPt6'", "href='#point'");
  replace_all(svg, "xlink:href='#gpPt5'", "href='#ring'");
  replace_all(svg, "<g >", "<g>");
  cut_empty_groups(svg);
  name_colours(svg);
  replace_all(svg, " color=\"black\"", "");
  replace_all(svg, " font-family=\"sans-serif\"", "");
  return fmt::format("<svg class=\"{}\" viewBox=\"0 0 {} {}\" role=\"img\" aria-label=\"{}\">\n{}",
                     canvas.suffix, canvas.width, canvas.height, label, svg);
}

std::string aria_label(const Chart& chart) {
  std::string label = chart.y_label + " against " + chart.x_label;
  replace_all(label, "&", "&amp;");
  replace_all(label, "<", "&lt;");
  replace_all(label, "\"", "&quot;");
  return label;
}

}  // namespace

std::vector<Drawing> draw(const std::vector<Chart>& charts, const std::string& gnuplot) {
  const train::ScratchDirectory directory("report");
  std::string script = fmt::format("cd {}\n", gnuplot_text(directory.path().string()));
  for (std::size_t c = 0; c < charts.size(); ++c) {
    for (std::size_t s = 0; s < charts[c].series.size(); ++s)
      write_data(directory.path() / data_name(c, s), charts[c].series[s]);
    for (const auto& canvas : kCanvases) script += plot_script(charts[c], c, canvas);
  }
  std::ofstream(directory.path() / "script.gp") << script;
  run_gnuplot(gnuplot, directory.path());
  std::vector<Drawing> drawings;
  for (std::size_t c = 0; c < charts.size(); ++c) {
    const auto drawing = [&](const Canvas& canvas) {
      const fs::path file = directory.path() / fmt::format("{}-{}.svg", canvas.suffix, c);
      return inline_svg(read_text(file), aria_label(charts[c]), canvas);
    };
    drawings.push_back({.wide = drawing(kCanvases[0]), .narrow = drawing(kCanvases[1])});
  }
  return drawings;
}

std::string drawing_definitions() {
  return "<svg width=\"0\" height=\"0\" style=\"position:absolute\" aria-hidden=\"true\"><defs>"
         "<circle id=\"point\" r=\"1\" fill=\"currentColor\"/>"
         "<circle id=\"ring\" r=\"1\" fill=\"none\" stroke=\"currentColor\" "
         "stroke-width=\"0.4\"/></defs></svg>\n";
}

}  // namespace sluice::study
