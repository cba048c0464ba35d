#pragma once

#include <string>

#include "trainer/study/plan/cluster.h"

namespace sluice::cli {

/// Reads a cluster file (docs/formats.md): INI, [measured], [gpu], [link.node], [link.network], [cost], and
/// above the first section `include = FILE` (from the file's folder), whose keys this file's own replace.
/// Throws train::InputError with all faults at once: unknown keys with the nearest known one, bad values with
/// what is allowed, keys given twice, keys that are missing.
[[nodiscard]] study::plan::Cluster read_cluster(const std::string& file);
/// The same of a text that includes nothing.
[[nodiscard]] study::plan::Cluster parse_cluster(const std::string& text, const std::string& file_name);

/// INI text, each key with a comment: parse_cluster(cluster_text(x)) == x. Link and prices that are not known
/// are left out. `head`: lines of comment above it.
[[nodiscard]] std::string cluster_text(const study::plan::Cluster& cluster, const std::string& head);

/// The keys of a cluster file with their ranges and meanings, for `sluice plan --help`.
[[nodiscard]] std::string cluster_keys_help();

}  // namespace sluice::cli
