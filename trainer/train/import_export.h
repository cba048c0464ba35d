#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "trainer/train/layouts.h"
#include "trainer/train/replica.h"
#include "trainer/train/safetensors.h"

// Weights between our models and files of other programs' tensors.

namespace sluice::train {

/// Rows of the file's embedding: the vocabulary of its model. None where there is no such matrix.
[[nodiscard]] std::optional<std::int64_t> stored_vocabulary(const SafetensorsFile& file,
                                                            const Layout& layout);

/// Copies every parameter of `into` from the file, converted to the replica's type. Throws InputError with
/// all that does not fit: settings that the layout cannot express; tensors missing, unexpected, of another
/// shape (both are named) or not of floating type; tables of positions other than the model's.
void import_weights(const SafetensorsFile& file, const Layout& layout, Replica& into);

/// Every parameter under the layout's name, in its shape, CPU, contiguous; with the layout's table of
/// positions, if it has one. Throws InputError with all settings that the layout cannot express.
[[nodiscard]] std::vector<NamedTensor> export_weights(const Replica& replica, const Layout& layout);

}  // namespace sluice::train
