#include "tests/support/small_model.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>

#include <random>
#include <utility>

#include "trainer/kernels/autograd.h"

namespace sluice::testing {
namespace {

at::Tensor from(const std::vector<double>& values) {
  at::Tensor out =
      at::empty({static_cast<std::int64_t>(values.size())}, at::TensorOptions().dtype(at::kDouble));
  std::copy(values.begin(), values.end(), out.data_ptr<double>());
  return out;
}

}  // namespace

std::map<std::string, std::vector<double>> SmallModel::values() const {
  std::map<std::string, std::vector<double>> out;
  for (std::size_t i = 0; i < specs.size(); ++i) {
    const at::Tensor wide = leaves[i].detach().to(at::kDouble).contiguous();
    out[specs[i].name].assign(wide.const_data_ptr<double>(), wide.const_data_ptr<double>() + wide.numel());
  }
  return out;
}

SmallModel make_small_model(const model::ModelOptions& options, std::int64_t vocabulary_size,
                            at::ScalarType dtype, std::uint64_t seed, model::Recompute recompute) {
  SmallModel small{.options = options,
                   .vocabulary_size = vocabulary_size,
                   .specs = model::parameter_specs(options, vocabulary_size),
                   .gradients = {},
                   .leaves = {},
                   .model = {}};
  const std::int64_t size = model::parameter_count(small.specs);
  const at::Tensor parameters = at::zeros({size}, at::TensorOptions().dtype(dtype));
  small.gradients = at::zeros({size}, at::TensorOptions().dtype(dtype));
  std::mt19937_64 engine(seed);
  std::normal_distribution<double> normal(0.0, 0.4);
  std::int64_t offset = 0;
  for (const model::ParameterSpec& spec : small.specs) {
    const std::int64_t numel = model::parameter_count({spec});
    std::vector<double> draws(static_cast<std::size_t>(numel));
    const double centre = spec.init.kind == model::Initialiser::Kind::kOnes ? 1.0 : 0.0;
    for (double& draw : draws) draw = centre + normal(engine);
    const at::Tensor value = parameters.narrow(0, offset, numel);
    value.copy_(from(draws));
    small.leaves.push_back(kernels::make_leaf(value.view(spec.shape),
                                              small.gradients.narrow(0, offset, numel).view(spec.shape)));
    offset += numel;
  }
  small.model = model::make_model(options, vocabulary_size, small.leaves, recompute);
  return small;
}

at::Tensor random_tokens(std::vector<std::int64_t> shape, std::int64_t vocabulary_size, std::uint64_t seed) {
  at::Tensor tokens = at::empty(shape, at::TensorOptions().dtype(at::kLong));
  std::mt19937_64 engine(seed);
  for (std::int64_t i = 0; i < tokens.numel(); ++i) {
    tokens.data_ptr<std::int64_t>()[i] =
        static_cast<std::int64_t>(engine() % static_cast<std::uint64_t>(vocabulary_size));
  }
  return tokens;
}

double relative_error(const at::Tensor& a, const at::Tensor& b) {
  const at::Tensor wide = b.detach().to(at::kDouble);
  const double difference = (a.detach().to(at::kDouble).sub(wide)).norm().item<double>();
  const double norm = wide.norm().item<double>();
  return norm == 0.0 ? difference : difference / norm;
}

double relative_error(const at::Tensor& a, const std::vector<double>& b) {
  return relative_error(a.reshape({-1}), from(b));
}

}  // namespace sluice::testing
