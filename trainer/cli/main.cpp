#include <cstdio>
#include <stdexcept>
#include <string>
#include <vector>

#include "dataio/error.h"
#include "parallel/agree.h"
#include "parallel/device.h"
#include "parallel/mpi_environment.h"
#include "trainer/cli/command.h"
#include "trainer/train/errors.h"

namespace {

using namespace sluice;

enum class Where { kEverywhere, kHere };  ///< whether the other ranks have met the same fault

// One message for a job: rank 0 speaks for a fault that all share, else the rank that has it, and then nobody
// waits for it.
int report(parallel::Communicator& world, const std::string& reason, Where where, int code) {
  const bool alone = world.size() == 1;
  if (where == Where::kHere && !alone) {
    std::fprintf(stderr, "sluice: rank %d: %s\n", static_cast<int>(world.rank()), reason.c_str());
    world.abort(code);
  }
  if (world.rank() == 0) std::fprintf(stderr, "sluice: %s\n", reason.c_str());
  return code;
}

int run(const std::vector<std::string>& words, parallel::Communicator& world) {
  try {
    return cli::dispatch(words, world);
  } catch (const train::InputError& error) {
    return report(world, error.what(), Where::kEverywhere, cli::kBadInput);
  } catch (const parallel::DeviceError& error) {
    return report(world, error.what(), Where::kEverywhere, cli::kBadInput);
  } catch (const parallel::PeerError& error) {
    return report(world, error.what(), Where::kEverywhere, cli::kBadInput);
  } catch (const dataio::DataError& error) {
    return report(world, error.what(), Where::kHere, cli::kBadInput);
  } catch (const std::invalid_argument& error) {
    return report(world, error.what(), Where::kHere, cli::kBadInput);
  } catch (const std::exception& error) {
    return report(world, error.what(), Where::kHere, cli::kFault);
  }
}

}  // namespace

int main(int argc, char** argv) {
  parallel::MpiEnvironment environment(&argc, &argv);
  const auto world = environment.world();
  return run({argv + 1, argv + argc}, *world);
}
