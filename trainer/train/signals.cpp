#include "trainer/train/signals.h"

#include <csignal>
#include <initializer_list>

namespace sluice::train {

namespace {

volatile std::sig_atomic_t stop_requested = 0;  // handlers reach nothing else
constexpr std::initializer_list<int> kSignals = {SIGTERM, SIGINT, SIGUSR1};

void set_action(void (*action)(int)) {
  struct sigaction entry = {};
  entry.sa_handler = action;
  entry.sa_flags = SA_RESTART;
  sigemptyset(&entry.sa_mask);
  for (const int signal : kSignals) sigaction(signal, &entry, nullptr);
}

void note_stop(int signal) {
  stop_requested = signal;
  set_action(SIG_DFL);
}

}  // namespace

StopSignals::StopSignals() {
  stop_requested = 0;
  set_action(note_stop);
}

StopSignals::~StopSignals() { set_action(SIG_DFL); }

int StopSignals::first() const { return stop_requested; }

}  // namespace sluice::train
