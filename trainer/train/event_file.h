#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "trainer/train/files.h"

// Scalars as TensorBoard reads them: a file of TFRecords (tensorflow/core/lib/io/record_writer.h), each an
// Event (tensorflow/core/util/event.proto), encoded here by hand.

namespace sluice::train {

struct Scalar {
  std::string tag;  ///< "loss/train"
  double value = 0;
};

/// CRC-32C (Castagnoli; RFC 3720, appendix B.4) of bytes.
[[nodiscard]] std::uint32_t crc32c(std::string_view bytes);

/// `data` as a TFRecord: its length (8 bytes), the length's masked CRC-32C (4), data, data's masked CRC-32C
/// (4), all little endian.
[[nodiscard]] std::string tf_record(std::string_view data);

/// A directory's event file, kEventFile. It only grows, since TensorBoard reads on where it stopped: a run
/// that goes on from step s appends the start of a session at step s + 1, at which TensorBoard drops what it
/// had of that step and later ones. A torn last record is cut off.
class EventFile {
 public:
  /// `steps`: done when this session begins. Throws std::system_error.
  EventFile(const std::filesystem::path& directory, std::int64_t steps);

  /// One record with all of them, handed to the kernel at once. Values that are not finite stay out.
  void append(std::int64_t step, const std::vector<Scalar>& scalars);

 private:
  LineFile file_;
};

/// "tfevents" in a name is what TensorBoard looks for.
inline constexpr const char* kEventFile = "events.out.tfevents.sluice";

}  // namespace sluice::train
