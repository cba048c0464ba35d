#include "trainer/cli/cluster_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <filesystem>
#include <fstream>

#include "tests/unit/cli/faults.h"
#include "tests/unit/dataio/scratch.h"

namespace sluice::cli {
namespace {

using study::plan::Cluster;
using testing::ElementsAre;
using testing::HasSubstr;

constexpr const char* kWhole =
    "[gpu]\nkind = cuda\nprecision = bf16\nmemory_bytes = 8e10\ngemm_flops_per_s = 6e14\ngemm_bytes_per_s = "
    "2e12\n"
    "copy_bytes_per_s = 4e12\nupdate_bytes_per_s = 3e12\nspread = 0.9, 1,1.2\n"
    "[link.node]\nranks = 8\nlatency_s = 1e-5\nbytes_per_s = 3e11\nall_gather_bytes_per_s = 2e11\n"
    "[link.network]\nalgorithm = tree\nlatency_s = 2e-5\nbytes_per_s = 4e10\n"
    "[cost]\ngpu_hour = 2.5\n";

TEST(ClusterFile, HoldsWhatItSays) {
  const Cluster cluster = parse_cluster(kWhole, "c.ini");
  EXPECT_EQ(cluster.gpu.kind, "cuda");
  EXPECT_EQ(cluster.gpu.gemm_flops_per_s, 6e14);
  EXPECT_THAT(cluster.gpu.spread, ElementsAre(0.9, 1, 1.2));
  EXPECT_EQ(cluster.links.ranks_per_node, 8);
  EXPECT_EQ(cluster.links.node.reduce_scatter.bytes_per_s, 3e11) << "as the all-reduce";
  EXPECT_EQ(cluster.links.node.all_gather.bytes_per_s, 2e11);
  EXPECT_EQ(cluster.links.node.all_gather.latency_s, 1e-5);
  ASSERT_TRUE(cluster.links.network.has_value());
  EXPECT_EQ(cluster.links.network->algorithm, study::plan::Algorithm::kTree);
  EXPECT_EQ(cluster.cost.gpu_hour, 2.5);
  EXPECT_EQ(cluster.measured_ranks, 1);
}

TEST(ClusterFile, AllFaultsAreToldAtOnceWithTheNearestKey) {
  const auto faults = faults_of([] {
    (void)parse_cluster(
        "[gpu]\nkind = gpu\nmemory_byte = 1\nprecision = bf16\ngemm_flops_per_s = -1\n"
        "gemm_bytes_per_s = 1\ncopy_bytes_per_s = 1\ncopy_bytes_per_s = 2\nspread = 1,x\n"
        "[link.network]\nlatency_s = 1\nnonsense\n",
        "c.ini");
  });
  EXPECT_THAT(
      faults,
      testing::UnorderedElementsAre(
          AllOf(HasSubstr("gpu.kind = gpu"), HasSubstr("cpu or cuda"), HasSubstr("c.ini, line 2")),
          HasSubstr("gpu.memory_byte: unknown key; did you mean gpu.memory_bytes? (c.ini, line 3)"),
          HasSubstr("gpu.gemm_flops_per_s = -1: must be a number > 0"),
          HasSubstr("gpu.copy_bytes_per_s: given twice (c.ini, lines 7 and 8)"),
          HasSubstr("gpu.spread = 1,x"), HasSubstr("'nonsense'"), HasSubstr("gpu.memory_bytes: missing"),
          HasSubstr("gpu.update_bytes_per_s: missing"), HasSubstr("link.node.ranks: missing"),
          HasSubstr("link.node.latency_s: missing"), HasSubstr("link.node.bytes_per_s: missing"),
          HasSubstr("link.network.bytes_per_s: missing")));
}

TEST(ClusterFile, IncludesAnotherWhoseKeysItReplaces) {
  const dataio::Scratch scratch;
  std::ofstream(scratch.path() / "measured.ini") << kWhole;
  const auto file = (scratch.path() / "mine.ini").string();
  std::ofstream(file)
      << "include = measured.ini\n[cost]\ngpu_hour = 3\ncurrency = USD\n[gpu]\nmemory_bytes = 4e10\n";
  const Cluster cluster = read_cluster(file);
  EXPECT_EQ(cluster.cost.gpu_hour, 3);
  EXPECT_EQ(cluster.cost.currency, "USD");
  EXPECT_EQ(cluster.gpu.memory_bytes, 4e10);
  EXPECT_EQ(cluster.gpu.copy_bytes_per_s, 4e12);
  std::ofstream(scratch.path() / "measured.ini") << "include = mine.ini\n" << kWhole;
  EXPECT_THAT(faults_of([&] { (void)read_cluster(file); }),
              ElementsAre(HasSubstr("included file includes nothing")));
  std::ofstream(file) << "include = gone.ini\n" << kWhole;
  EXPECT_THAT(faults_of([&] { (void)read_cluster(file); }),
              ElementsAre(HasSubstr("gone.ini: cannot be read")));
  EXPECT_THAT(faults_of([&] { (void)read_cluster(file + "x"); }), ElementsAre(HasSubstr("--cluster")));
}

RC_GTEST_PROP(ClusterFile, TextOfAClusterIsThatCluster, ()) {
  const auto number = [] { return *rc::gen::inRange(1, 1'000'000'007) * 1.7e-3; };
  Cluster cluster = parse_cluster(kWhole, "c.ini");
  cluster.measured_ranks = *rc::gen::inRange(1, 5000);
  cluster.gpu.name = "a device";
  cluster.gpu.memory_bytes = number();
  cluster.gpu.overlap_slowdown = 1 + number();
  cluster.gpu.spread = {number(), number()};
  cluster.links.node.reduce_scatter = {.latency_s = number(), .bytes_per_s = number()};
  if (*rc::gen::arbitrary<bool>()) cluster.links.network.reset();
  const std::string text = cluster_text(cluster, "one\ntwo");
  RC_ASSERT(text.starts_with("# one\n# two\n"));
  const Cluster again = parse_cluster(text, "again.ini");
  RC_ASSERT(cluster_text(again, "one\ntwo") == text);
  RC_ASSERT(again.gpu.memory_bytes == cluster.gpu.memory_bytes);
  RC_ASSERT(again.links.network.has_value() == cluster.links.network.has_value());
}

TEST(ClusterFile, TheCommittedOneIsValid) {
  const auto cluster = read_cluster(SLUICE_SOURCE_DIR "/configs/rates/h200x2.ini");
  EXPECT_EQ(cluster.gpu.kind, "cuda");
  EXPECT_EQ(cluster.gpu.precision, "bf16");
}

}  // namespace
}  // namespace sluice::cli
