#pragma once

#include <stdexcept>
#include <string>
#include <vector>

namespace sluice::train {

/// Bad user input: every fault found, each naming the key or file, its value and what is allowed. Exit
/// code 2.
class InputError : public std::runtime_error {
 public:
  explicit InputError(std::vector<std::string> faults)
      : std::runtime_error(join(faults)), faults_(std::move(faults)) {}
  explicit InputError(const std::string& fault) : InputError(std::vector<std::string>{fault}) {}

  [[nodiscard]] const std::vector<std::string>& faults() const { return faults_; }

 private:
  static std::string join(const std::vector<std::string>& faults) {
    std::string text;
    for (const auto& fault : faults) text += (text.empty() ? "" : "\n") + printable(fault);
    return text;
  }
  /// Faults quote files as they are: a control character would garble the terminal, a NUL end the message.
  static std::string printable(std::string fault) {
    for (char& c : fault) {
      if (static_cast<unsigned char>(c) < 0x20 && c != '\n' && c != '\t') c = '?';
    }
    return fault;
  }
  std::vector<std::string> faults_;
};

/// A fault that every rank sees and throws at the same point, so that nobody waits for anybody: it is told
/// once, by rank 0.
class AgreedError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

}  // namespace sluice::train
