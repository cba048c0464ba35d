#include "trainer/kernels/autograd.h"

#include <c10/util/Exception.h>
#include <torch/csrc/autograd/function_hook.h>
#include <torch/csrc/autograd/variable.h>

#include <memory>
#include <utility>

namespace sluice::kernels {
namespace {

class ReadyHook : public torch::autograd::PostAccumulateGradHook {
 public:
  explicit ReadyHook(std::function<void()> ready) : ready_(std::move(ready)) {}
  void operator()(const torch::autograd::Variable& /*leaf*/) override { ready_(); }

 private:
  std::function<void()> ready_;
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

void on_gradient_ready(const at::Tensor& leaf, std::function<void()> ready) {
  TORCH_CHECK(leaf.is_leaf() && leaf.requires_grad(),
              "on_gradient_ready: the tensor accumulates no gradient");
  TORCH_CHECK(torch::autograd::impl::post_acc_grad_hooks(leaf) == nullptr,
              "on_gradient_ready: the leaf has a callback already");
  torch::autograd::impl::set_post_acc_grad_hooks(leaf, std::make_unique<ReadyHook>(std::move(ready)));
}

}  // namespace sluice::kernels
