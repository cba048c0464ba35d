#include "parallel/device.h"

namespace sluice::parallel {

DeviceReport report_devices() { return {}; }

}  // namespace sluice::parallel
