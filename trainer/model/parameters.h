#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>
#include <vector>

#include "trainer/model/options.h"

namespace sluice::model {

enum class WeightDecay { kApply, kNone };  ///< none on norms, biases, and W's bias

enum class Reads {
  kAll,
  kLowerTriangle,  ///< of a square, or of each of several: what lies above the diagonal is never read and
                   ///< has no gradient
};

/// What the ranks that share sequences may hold of a parameter.
enum class Deal {
  kWhole,
  kRows,  ///< the rows of their positions alone: the last dimension but one runs over the sequence
};

struct Initialiser {
  enum class Kind { kZeros, kOnes, kNormal, kUniform };
  Kind kind = Kind::kZeros;
  double scale = 0.0;     ///< standard deviation, or half width of U(-scale, scale)
  std::string draw_name;  ///< name whose random stream is drawn (another layer's with identical_layers)
};

/// One named parameter: all that the arena, the initialiser and the optimizer need to know of it.
struct ParameterSpec {
  std::string name;  ///< "blocks.3.sgu.weight"
  std::vector<std::int64_t> shape;
  WeightDecay decay = WeightDecay::kApply;
  Initialiser init;
  Reads reads = Reads::kAll;
  Deal deal = Deal::kWhole;
  bool late = false;  ///< of the first late_blocks()
};

/// How many blocks, from the first, leave the gradients of their matrices to the end of backward
/// (kernels::fused_block): a few, so that ranks exchange the embedding's meanwhile, of a model deep enough
/// that the memory of other blocks is free by then. None where W is so large that its own exchange lasts.
[[nodiscard]] std::int64_t late_blocks(const ModelOptions& options);

/// Every parameter of the model, in the order in which forward first uses them.
/// All families: embed.weight [V, d] first; at the end norm.{weight,bias} [d]; head.weight [V, d] if untied;
/// head.bias [V]. A gMLP's blocks, of c = gate_channels: blocks.{i}.norm.{weight,bias} [d]; .expand.weight
/// [f, d], .bias [f]; .attention.qkv.weight [3 a, d], .bias [3 a]; .sgu.norm.{weight,bias} [c] with
/// gate_norm; .sgu.weight [n, n] or Toeplitz [2 n - 1], .sgu.bias [n], of several heads [h, ...] each;
/// .attention.out.weight [c, a], .bias [c]; .contract.weight [d, c], .bias [d].
/// A Transformer: positions.weight [n, d] if learned; blocks.{i}.attention.norm.{weight,bias} [d];
/// .attention.qkv.weight [3 d, d], .bias [3 d] (attention = positions_only: .attention.value [d, d] instead);
/// .attention.relative.weight [heads, kernels::kRelativeBuckets] with relative positions;
/// .attention.out.weight [d, d], .bias [d]; .mlp.norm.{weight,bias} [d]; .mlp.expand.weight [f, d] ([2 f, d]
/// with swiglu), .bias; .mlp.contract.weight [d, f], .bias [d]; no norm has a bias with norm = rms, nothing
/// in or after the blocks with bias = false.
/// An MLP-Mixer: positions.weight as there; blocks.{i}.token.norm.{weight,bias} [d]; .token.expand.weight [s,
/// n], .bias [s]; .token.contract.weight [n, s], .bias [n], of s = d_spatial; .mlp as a Transformer's.
[[nodiscard]] std::vector<ParameterSpec> parameter_specs(const ModelOptions& options,
                                                         std::int64_t vocabulary_size);

/// The initial value, CPU, `dtype` float32 or float64 (the same draws, rounded). A pure function of (spec,
/// seed).
[[nodiscard]] at::Tensor initial_value(const ParameterSpec& spec, std::uint64_t seed, at::ScalarType dtype);

/// Throws c10::Error naming the first of `parameters` that is not as specified.
void check_parameters(const std::vector<ParameterSpec>& specs, const std::vector<at::Tensor>& parameters);

[[nodiscard]] std::int64_t parameter_count(const std::vector<ParameterSpec>& specs);

}  // namespace sluice::model
