#pragma once

#include <string>

#include "parallel/communicator.h"
#include "parallel/device_stream.h"

namespace sluice::parallel {

/// Until the device has come past `event`, which an exchange may hold up: looks every now and then whether
/// that has failed, for then the device never comes, and throws what communicator.check() throws. `what`
/// names it to the watchdog; all ranks wait for the same in the same order.
void wait_for_event(const DeviceEvent& event, Communicator& communicator, std::string what);

}  // namespace sluice::parallel
