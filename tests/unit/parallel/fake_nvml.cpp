// A library with NVML's names, for one GPU at 0000:3B:00.0: what PowerMeter calls, and in which order.
#include <cstring>

extern "C" {

namespace {
int initialised = 0;
int device = 0;
constexpr int kFault = 3;
}  // namespace

int nvmlInit_v2() { return ++initialised > 0 ? 0 : kFault; }
int nvmlShutdown() { return --initialised >= 0 ? 0 : kFault; }

int nvmlDeviceGetHandleByPciBusId_v2(const char* address, void** handle) {
  if (initialised == 0 || std::strcmp(address, "0000:3B:00.0") != 0) return kFault;
  *handle = &device;
  return 0;
}

int nvmlDeviceGetPowerUsage(void* handle, unsigned int* milliwatts) {
  if (initialised == 0 || handle != &device) return kFault;
  *milliwatts = 512'500;
  return 0;
}

#ifdef SLUICE_FAKE_COUNTS_ENERGY
int nvmlDeviceGetTotalEnergyConsumption(void* handle, unsigned long long* millijoules) {
  static unsigned long long counter = 7'000'000'000'000;  // more than 32 bits hold
  if (initialised == 0 || handle != &device) return kFault;
  *millijoules = counter += 250;
  return 0;
}
#endif
}
