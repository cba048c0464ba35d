#include "parallel/nvml.h"

#include <dlfcn.h>

#include <utility>

namespace sluice::parallel {
namespace {

// What this file needs of NVML's stable binary interface; the toolkit's nvml.h is not always installed.
using NvmlHandle = struct nvmlDevice_st*;
constexpr int kNvmlSuccess = 0;
using NvmlVoid = int (*)();
using NvmlHandleByPciBusId = int (*)(const char*, NvmlHandle*);
using NvmlPowerUsage = int (*)(NvmlHandle, unsigned int* milliwatts);
using NvmlTotalEnergy = int (*)(NvmlHandle, unsigned long long* millijoules);

struct LibraryCloser {
  void operator()(void* library) const { dlclose(library); }
};
using Library = std::unique_ptr<void, LibraryCloser>;

template <class Function>
Function find(const Library& library, const char* name) {
  return reinterpret_cast<Function>(dlsym(library.get(), name));
}

/// nvmlInit() until nvmlShutdown(): NVML counts them, so that others in the process may hold their own.
class NvmlSession {
 public:
  explicit NvmlSession(Library library) : library_(std::move(library)) {
    const auto start = find<NvmlVoid>(library_, "nvmlInit_v2");
    started_ = start != nullptr && start() == kNvmlSuccess;
  }
  ~NvmlSession() {
    if (!started_) return;
    if (const auto stop = find<NvmlVoid>(library_, "nvmlShutdown")) stop();
  }
  NvmlSession(const NvmlSession&) = delete;
  NvmlSession& operator=(const NvmlSession&) = delete;

  [[nodiscard]] bool started() const { return started_; }
  [[nodiscard]] const Library& library() const { return library_; }

 private:
  Library library_;
  bool started_ = false;
};

class NvmlPowerMeter : public PowerMeter {
 public:
  NvmlPowerMeter(std::unique_ptr<NvmlSession> session, NvmlHandle device)
      : session_(std::move(session)),
        device_(device),
        power_(find<NvmlPowerUsage>(session_->library(), "nvmlDeviceGetPowerUsage")),
        energy_(find<NvmlTotalEnergy>(session_->library(), "nvmlDeviceGetTotalEnergyConsumption")) {}

  [[nodiscard]] std::optional<double> power_w() const override {
    unsigned int milliwatts = 0;
    if (power_ == nullptr || power_(device_, &milliwatts) != kNvmlSuccess) return std::nullopt;
    return 1e-3 * milliwatts;
  }

  [[nodiscard]] std::optional<double> energy_j() const override {
    unsigned long long millijoules = 0;
    if (energy_ == nullptr || energy_(device_, &millijoules) != kNvmlSuccess) return std::nullopt;
    return 1e-3 * static_cast<double>(millijoules);
  }

 private:
  std::unique_ptr<NvmlSession> session_;
  NvmlHandle device_;
  NvmlPowerUsage power_;
  NvmlTotalEnergy energy_;
};

}  // namespace

std::unique_ptr<PowerMeter> PowerMeter::open(const std::string& pci_bus_id) {
  return open(pci_bus_id, "libnvidia-ml.so.1");
}

std::unique_ptr<PowerMeter> PowerMeter::open(const std::string& pci_bus_id, const std::string& library) {
  if (pci_bus_id.empty()) return nullptr;
  Library handle(dlopen(library.c_str(), RTLD_NOW | RTLD_LOCAL));
  if (!handle) return nullptr;
  auto session = std::make_unique<NvmlSession>(std::move(handle));
  if (!session->started()) return nullptr;
  const auto by_address = find<NvmlHandleByPciBusId>(session->library(), "nvmlDeviceGetHandleByPciBusId_v2");
  NvmlHandle device = nullptr;
  if (by_address == nullptr || by_address(pci_bus_id.c_str(), &device) != kNvmlSuccess) return nullptr;
  return std::make_unique<NvmlPowerMeter>(std::move(session), device);
}

}  // namespace sluice::parallel
