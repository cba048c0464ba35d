#include "trainer/kernels/autograd.h"

#include <ATen/core/grad_mode.h>
#include <c10/util/Exception.h>
#include <torch/csrc/autograd/function_hook.h>
#include <torch/csrc/autograd/variable.h>

#include <memory>
#include <utility>

namespace sluice::kernels {
namespace {

/// What happens after a backward has reached a leaf: its gradient is moved into `sum`, where there is one,
/// and then `ready` hears of it.
class LeafHook : public torch::autograd::PostAccumulateGradHook {
 public:
  explicit LeafHook(at::Tensor sum) : sum_(std::move(sum)) {}

  void operator()(const torch::autograd::Variable& leaf) override {
    if (sum_.defined()) {
      const at::NoGradGuard no_grad;
      sum_.add_(leaf.grad());
      leaf.mutable_grad().reset();
    }
    if (ready) ready();
  }

  std::function<void()> ready;

 private:
  at::Tensor sum_;
};

}  // namespace

at::Tensor make_leaf(const at::Tensor& value, const at::Tensor& gradient) {
  TORCH_CHECK(value.sizes() == gradient.sizes(), "make_leaf: value of shape ", value.sizes(),
              ", gradient of shape ", gradient.sizes());
  TORCH_CHECK(value.dtype() == gradient.dtype() && value.device() == gradient.device(),
              "make_leaf: value is ", value.dtype(), " on ", value.device(), ", gradient is ",
              gradient.dtype(), " on ", gradient.device());
  at::Tensor leaf = value.detach();
  leaf.set_requires_grad(true);
  leaf.mutable_grad() = gradient;
  return leaf;
}

at::Tensor make_rounded_leaf(const at::Tensor& value, const at::Tensor& gradient) {
  TORCH_CHECK(value.sizes() == gradient.sizes() && value.device() == gradient.device() &&
                  gradient.scalar_type() == at::kFloat,
              "make_rounded_leaf: value of shape ", value.sizes(), " on ", value.device(),
              ", gradient of shape ", gradient.sizes(), ", ", gradient.dtype(), " on ", gradient.device());
  at::Tensor leaf = value.detach();
  leaf.set_requires_grad(true);
  torch::autograd::impl::set_post_acc_grad_hooks(leaf, std::make_unique<LeafHook>(gradient));
  return leaf;
}

void on_gradient_ready(const at::Tensor& leaf, std::function<void()> ready) {
  TORCH_CHECK(leaf.is_leaf() && leaf.requires_grad(),
              "on_gradient_ready: the tensor accumulates no gradient");
  auto& slot = torch::autograd::impl::post_acc_grad_hooks(leaf);
  if (slot == nullptr)
    torch::autograd::impl::set_post_acc_grad_hooks(leaf, std::make_unique<LeafHook>(at::Tensor()));
  auto* const hook = dynamic_cast<LeafHook*>(torch::autograd::impl::post_acc_grad_hooks(leaf).get());
  TORCH_CHECK(hook != nullptr && !hook->ready, "on_gradient_ready: the leaf has a callback already");
  hook->ready = std::move(ready);
}

}  // namespace sluice::kernels
