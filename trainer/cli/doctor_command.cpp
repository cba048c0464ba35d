#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>

#include "parallel/agree.h"
#include "parallel/device.h"
#include "trainer/cli/arguments.h"
#include "trainer/cli/command.h"
#include "trainer/cli/doctor/checks.h"
#include "trainer/cli/doctor/launch.h"
#include "trainer/cli/doctor/measure.h"
#include "trainer/cli/doctor/probe.h"
#include "trainer/cli/output.h"
#include "trainer/train/device_group.h"
#include "trainer/train/errors.h"
#include "trainer/train/nodes.h"
#include "trainer/train/scratch_directory.h"
#include "trainer/train/threads.h"

namespace fs = std::filesystem;

namespace sluice::cli {
namespace {

using doctor::Finding;
using doctor::Findings;
using doctor::RankProbe;
using doctor::Severity;

const std::vector<Flag> kDoctorFlags = {
    {.name = "--dir",
     .value_name = "DIR",
     .help = "where corpora and runs are to lie; default: the current directory",
     .many = true},
    {.name = "--device", .value_name = "NAME", .help = "auto, cpu or cuda", .default_value = "auto"},
    {.name = "--strict", .help = "warnings count as faults in the exit code"},
    json_flag()};

std::vector<fs::path> directories_of(const Arguments& arguments) {
  std::vector<fs::path> directories;
  for (const std::string& text : arguments.list("--dir")) directories.push_back(fs::absolute(text));
  if (directories.empty()) directories.push_back(fs::current_path());
  return directories;
}

/// Rank 0's marks, by which the others know its directories; gone with this object.
class Marks {
 public:
  Marks(const std::vector<fs::path>& directories, parallel::Communicator& world) {
    nlohmann::json paths = nlohmann::json::array();
    parallel::on_all_ranks(world, [&] {
      if (world.rank() != 0) return;
      for (const fs::path& directory : directories) paths.push_back(mark(directory));
    });
    for (const auto& path : nlohmann::json::parse(world.broadcast(paths.dump(), 0)))
      paths_.emplace_back(path.get<std::string>());
  }
  [[nodiscard]] const std::vector<fs::path>& paths() const { return paths_; }

 private:
  /// Empty where nothing can be written.
  std::string mark(const fs::path& directory) {
    if (!fs::is_directory(directory))
      throw train::InputError("--dir " + directory.string() + ": is no directory");
    try {
      made_.push_back(std::make_unique<train::ScratchDirectory>("doctor", directory));
      return made_.back()->path().string();
    } catch (const std::system_error&) {
      return "";
    }
  }

  std::vector<std::unique_ptr<train::ScratchDirectory>> made_;
  std::vector<fs::path> paths_;
};

/// The ranks' devices; without a group CPUs, and why.
struct Devices {
  std::unique_ptr<train::DeviceGroup> group;
  std::string fault;
};

Devices open_devices(const std::string& choice, parallel::Communicator& world) {
  Devices devices;
  try {
    devices.group = std::make_unique<train::DeviceGroup>(choice, world);
    devices.group->connect();
  } catch (const parallel::DeviceError& error) {
    devices.fault = error.what();
  } catch (const parallel::PeerError& error) {
    devices.fault = error.what();
  }
  // The fault may be another rank's, and rank 0 alone speaks.
  for (const std::string& fault : world.all_gather(devices.fault))
    if (devices.fault.empty()) devices.fault = fault;
  if (!devices.fault.empty()) devices.group.reset();
  return devices;
}

Findings judge_devices(const std::vector<RankProbe>& ranks, const Devices& devices,
                       const std::string& choice) {
  if (choice == "cpu") return {{.what = "GPUs", .value = "not looked at (--device cpu)"}};
  return doctor::judge_gpus(ranks, parallel::report_devices().built_with_cuda, devices.fault);
}

Findings judge(const std::vector<RankProbe>& ranks, const doctor::Launch& launch, const Findings& gpus) {
  Findings all = {doctor::judge_launch(launch, std::ssize(ranks), doctor::mpi_name())};
  for (Findings found :
       {doctor::judge_libraries(ranks), gpus, doctor::judge_directories(ranks),
        doctor::judge_shared_memory(ranks), doctor::judge_limits(ranks), doctor::judge_binding(ranks),
        doctor::judge_clocks(ranks), doctor::judge_exchange(ranks), doctor::judge_products(ranks)})
    std::ranges::move(found, std::back_inserter(all));
  return all;
}

std::int64_t count(const Findings& findings, Severity severity) {
  return std::ranges::count(findings, severity, &Finding::severity);
}

constexpr const char* kNames[] = {"good", "warning", "fault"};

const char* name_of(Severity severity) { return kNames[static_cast<int>(severity)]; }

void print_doctor(const Findings& findings, const std::vector<train::NodeRanks>& nodes) {
  fmt::print("{}\n", train::describe_nodes(nodes));
  for (const Finding& finding : findings) {
    fmt::print("{:<8} {}: {}\n", name_of(finding.severity), finding.what, finding.value);
    if (!finding.fix.empty()) fmt::print("{:<8} fix: {}\n", "", finding.fix);
  }
  fmt::print("{} faults, {} warnings\n", count(findings, Severity::kFault),
             count(findings, Severity::kWarning));
}

nlohmann::ordered_json to_json(const Findings& findings, const std::vector<train::NodeRanks>& nodes) {
  nlohmann::ordered_json out = {{"faults", count(findings, Severity::kFault)},
                                {"warnings", count(findings, Severity::kWarning)},
                                {"nodes", nlohmann::ordered_json::array()},
                                {"findings", nlohmann::ordered_json::array()}};
  for (const train::NodeRanks& node : nodes)
    out["nodes"].push_back({{"host", node.host}, {"ranks", node.ranks}});
  for (const Finding& finding : findings)
    out["findings"].push_back({{"severity", name_of(finding.severity)},
                               {"what", finding.what},
                               {"value", finding.value},
                               {"fix", finding.fix}});
  return out;
}

int run_doctor(const std::vector<std::string>& words, parallel::Communicator& world) {
  const Arguments arguments(kDoctorFlags, words);
  const std::vector<fs::path> directories = directories_of(arguments);
  const std::string device = arguments.choice("--device", {"auto", "cpu", "cuda"});
  const doctor::Launch launch = doctor::read_launch(doctor::started_environment());
  RankProbe own;
  {
    const Marks marks(directories, world);
    parallel::on_all_ranks(world, [&] { own = doctor::probe_rank(world, directories, marks.paths()); });
    world.barrier();  // rank 0's marks stay until everyone has looked
  }
  const auto nodes = train::ranks_by_node(world);
  own.clock_ahead_s = doctor::clock_ahead(world);
  const Devices devices = open_devices(device, world);
  train::set_compute_threads(0, world);
  end_job_on_fault(world, [&] {
    auto* group = devices.group.get();
    doctor::measure_speed(own, group ? group->exchange() : world,
                          group ? group->device() : at::Device(at::kCPU));
  });
  const std::vector<RankProbe> ranks = doctor::gather_probes(own, world);
  const Findings findings = judge(ranks, launch, judge_devices(ranks, devices, device));
  const bool wrong = count(findings, Severity::kFault) > 0 ||
                     (arguments.has("--strict") && count(findings, Severity::kWarning) > 0);
  // Every process of a job that fell apart is rank 0 of its own: the launcher's first one speaks.
  const bool speaks =
      world.rank() == 0 && (findings.front().severity != Severity::kFault || launch.rank == 0);
  if (speaks) {
    const auto values = to_json(findings, nodes);
    print_result(arguments, values, [&] { print_doctor(findings, nodes); });
  }
  return wrong ? kFault : kDone;
}

}  // namespace

Command doctor_command() {
  return {
      .name = "doctor",
      .summary =
          "looks for what keeps a job from running, or from running fast, and says how to put it right",
      .help =
          "  sluice doctor [--dir DIR...] [--json]              this machine\n"
          "  launch/mpirun.sh ... -- sluice doctor [...]        a job's nodes, as it would run; likewise "
          "under srun\n\n"
          "launch         processes started against ranks that MPI sees: N jobs of one rank instead of one "
          "of "
          "N\n"
          "libraries      one MPI and one NCCL in each process\n"
          "GPUs           one for each rank, with a driver and code that fit\n"
          "directories    HDF5's file locks, the same directory on all nodes, at least 10 GB (fault: 1) and "
          "10,000 "
          "inodes (100)\n"
          "               free\n"
          "shared memory  at least 64 MB of /dev/shm a rank (fault: 16)\n"
          "limits         1,024 open files, 8 MB of stack, unlimited locked memory beside an RDMA device\n"
          "binding        ranks that share cores while others are free; half of a node's cores out of reach\n"
          "clocks         within 1 s (fault: 60)\n"
          "exchange       the sum of an all-reduce; ranks from or to which 1 MiB takes three times the "
          "median\n"
          "products       ranks whose matrix products have under 0.8 of the median rate\n\n"
          "Exit code 1 where there is a fault. Each finding that is not good comes with its fix.\n\n" +
          flag_help(kDoctorFlags),
      .run = run_doctor,
      .ranks = Ranks::kMany};
}

}  // namespace sluice::cli
