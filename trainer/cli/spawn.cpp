#include "trainer/cli/spawn.h"

#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <fstream>
#include <iterator>
#include <system_error>

namespace sluice::cli {
namespace {

[[noreturn]] void fail(int code, const std::string& what) {
  throw std::system_error(code, std::generic_category(), what);
}

/// Linux keeps it where the process began, whatever setenv() has done since.
std::vector<std::string> first_environment() {
  std::ifstream file("/proc/self/environ", std::ios::binary);
  const std::string text{std::istreambuf_iterator<char>(file), {}};
  std::vector<std::string> variables;
  for (std::size_t begin = 0; begin < text.size();) {
    const auto end = std::min(text.find('\0', begin), text.size());
    if (end > begin) variables.push_back(text.substr(begin, end - begin));
    begin = end + 1;
  }
  return variables;
}

std::vector<char*> pointers(std::vector<std::string>& words) {
  std::vector<char*> out;
  for (auto& word : words) out.push_back(word.data());
  out.push_back(nullptr);
  return out;
}

std::string read_all(int descriptor) {
  std::string text;
  std::array<char, 4096> buffer{};
  for (;;) {
    const auto count = read(descriptor, buffer.data(), buffer.size());
    if (count > 0) {
      text.append(buffer.data(), static_cast<std::size_t>(count));
    } else if (count == 0 || errno != EINTR) {
      return text;
    }
  }
}

/// First environment with `over` instead of variables of these names.
std::vector<std::string> environment_with(const std::map<std::string, std::string>& over) {
  auto variables = first_environment();
  std::erase_if(variables,
                [&](const std::string& one) { return over.contains(one.substr(0, one.find('='))); });
  for (const auto& [name, value] : over) variables.push_back(name + "=" + value);
  return variables;
}

int exit_code(int status) { return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status); }

}  // namespace

pid_t start(const StartPlan& plan) {
  auto arguments = plan.words;
  auto variables = environment_with(plan.variables);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  constexpr int kAppend = O_WRONLY | O_CREAT | O_APPEND;
  posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, plan.output.c_str(), kAppend, 0666);
  posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, plan.errors.c_str(), kAppend, 0666);
  // Onto itself: it is then not closed at exec.
  if (plan.kept_open >= 0) posix_spawn_file_actions_adddup2(&actions, plan.kept_open, plan.kept_open);
  posix_spawnattr_t attributes;
  posix_spawnattr_init(&attributes);
  posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETPGROUP);
  posix_spawnattr_setpgroup(&attributes, 0);
  pid_t child = 0;
  const int failed = posix_spawnp(&child, plan.words.front().c_str(), &actions, &attributes,
                                  pointers(arguments).data(), pointers(variables).data());
  posix_spawnattr_destroy(&attributes);
  posix_spawn_file_actions_destroy(&actions);
  if (failed != 0) fail(failed, plan.words.front());
  return child;
}

std::optional<int> ended(pid_t child) {
  int status = 0;
  const pid_t found = waitpid(child, &status, WNOHANG);
  if (found == 0) return std::nullopt;
  if (found < 0) fail(errno, "waitpid");
  return exit_code(status);
}

Spawned spawn(const std::vector<std::string>& words) {
  auto arguments = words;
  auto variables = first_environment();
  std::array<int, 2> ends{};
  if (pipe2(ends.data(), O_CLOEXEC) != 0) fail(errno, "pipe");
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, ends[1], STDOUT_FILENO);
  pid_t child = 0;
  const int failed = posix_spawnp(&child, words.front().c_str(), &actions, nullptr,
                                  pointers(arguments).data(), pointers(variables).data());
  posix_spawn_file_actions_destroy(&actions);
  close(ends[1]);
  if (failed != 0) {
    close(ends[0]);
    fail(failed, words.front());
  }
  Spawned result{.code = 0, .output = read_all(ends[0])};
  close(ends[0]);
  int status = 0;
  while (waitpid(child, &status, 0) < 0) {
    if (errno != EINTR) fail(errno, "waitpid");
  }
  result.code = exit_code(status);
  return result;
}

}  // namespace sluice::cli
