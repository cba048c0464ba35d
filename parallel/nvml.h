#pragma once

#include <memory>
#include <optional>
#include <string>

namespace sluice::parallel {

/// Power and energy of one GPU, as the driver's management library (NVML) counts them. The library is looked
/// for at run time: neither build nor start needs it.
class PowerMeter {
 public:
  /// Of the GPU at this PCI bus id ("00000000:3B:00.0"); null where library, GPU or permission is missing.
  [[nodiscard]] static std::unique_ptr<PowerMeter> open(const std::string& pci_bus_id);
  /// As open(), with the library at `library` instead of the system's.
  [[nodiscard]] static std::unique_ptr<PowerMeter> open(const std::string& pci_bus_id,
                                                        const std::string& library);

  virtual ~PowerMeter() = default;
  PowerMeter(const PowerMeter&) = delete;
  PowerMeter& operator=(const PowerMeter&) = delete;

  /// Watts now (averaged over up to a second, by GPU generation); none where the GPU does not tell.
  [[nodiscard]] virtual std::optional<double> power_w() const = 0;
  /// Joules since the driver was loaded; none where the GPU does not count. Take differences.
  [[nodiscard]] virtual std::optional<double> energy_j() const = 0;

 protected:
  PowerMeter() = default;
};

}  // namespace sluice::parallel
