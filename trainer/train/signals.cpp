#include "trainer/train/signals.h"

#include <atomic>
#include <condition_variable>
#include <initializer_list>
#include <mutex>
#include <stop_token>

namespace sluice::train {

namespace {

std::atomic<int> stop_requested = 0;  // handlers reach nothing else
static_assert(std::atomic<int>::is_always_lock_free);
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

sigset_t all_signals() {
  sigset_t set;
  sigemptyset(&set);
  for (const int signal : kSignals) sigaddset(&set, signal);
  return set;
}

/// Is there for signals alone, which any thread of a process may be given that does not block them.
void receive(const std::stop_token& stop) {
  const sigset_t set = all_signals();
  pthread_sigmask(SIG_UNBLOCK, &set, nullptr);
  std::mutex mutex;
  std::unique_lock lock(mutex);
  std::condition_variable_any().wait(lock, stop, [] { return false; });
}

}  // namespace

StopSignals::StopSignals(Handlers handlers) {
  const sigset_t set = all_signals();
  pthread_sigmask(SIG_SETMASK, nullptr, &mask_);
  stop_requested = 0;
  set_action(note_stop);
  if (handlers == Handlers::kAnywhere) return;
  pthread_sigmask(SIG_BLOCK, &set, nullptr);
  receiver_ = std::jthread(receive);
}

StopSignals::~StopSignals() {
  if (receiver_.joinable()) {
    receiver_.request_stop();
    receiver_.join();
    pthread_sigmask(SIG_SETMASK, &mask_, nullptr);
  }
  set_action(SIG_DFL);
}

int StopSignals::first() const { return stop_requested; }

}  // namespace sluice::train
