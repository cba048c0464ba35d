#include "trainer/kernels/autograd.h"

#include <ATen/core/grad_mode.h>
#include <c10/util/Exception.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/engine.h>
#include <torch/csrc/autograd/function.h>
#include <torch/csrc/autograd/function_hook.h>
#include <torch/csrc/autograd/functions/utils.h>
#include <torch/csrc/autograd/saved_variable.h>
#include <torch/csrc/autograd/variable.h>

#include <algorithm>
#include <memory>
#include <mutex>
#include <utility>

namespace sluice::kernels {
namespace {

/// What happens after a backward has reached a leaf: its gradient is moved into `sum`, unless it has been
/// accumulated there in place, or there is none because all of its uses have added theirs to it themselves;
/// and then `ready` hears of it.
class LeafHook : public torch::autograd::PostAccumulateGradHook {
 public:
  explicit LeafHook(at::Tensor sum) : sum_(std::move(sum)) {}

  void operator()(const torch::autograd::Variable& leaf) override {
    if (sum_.defined() && leaf.grad().defined() && !leaf.grad().is_same(sum_)) {
      const at::NoGradGuard no_grad;
      begun_sum(take()).add_(leaf.grad());
      leaf.mutable_grad().reset();
    }
    if (ready) ready();
  }

  [[nodiscard]] bool has_sum() const { return sum_.defined(); }
  [[nodiscard]] bool has_wider_sum(const at::Tensor& leaf) const {
    return sum_.defined() && sum_.scalar_type() != leaf.scalar_type();
  }
  void forget() { before_ = Before::kNothing; }
  [[nodiscard]] GradientSum take() { return {sum_, std::exchange(before_, Before::kSum)}; }

  std::function<void()> ready;

 private:
  at::Tensor sum_;
  Before before_ = Before::kSum;
};

/// Null for a tensor that accumulates no gradient.
LeafHook* hook_of(const at::Tensor& leaf) {
  if (!leaf.is_leaf() || !leaf.requires_grad()) return nullptr;
  return dynamic_cast<LeafHook*>(torch::autograd::impl::post_acc_grad_hooks(leaf).get());
}

/// Backward of a segment: records it over copies of its inputs that are leaves, and runs that graph's
/// backward within the one that is running.
class SegmentBackward : public torch::autograd::Node {
 public:
  SegmentBackward(Segment segment, const std::vector<at::Tensor>& inputs)
      : Node(torch::autograd::collect_next_edges(inputs)), segment_(std::move(segment)) {
    for (const at::Tensor& input : inputs) inputs_.emplace_back(input, /*is_output=*/false);
  }

  torch::autograd::variable_list apply(torch::autograd::variable_list&& gradients) override {
    std::vector<at::Tensor> leaves = unpack();
    if (!gradients[0].defined()) return torch::autograd::variable_list(leaves.size());
    at::Tensor output;
    {
      const c10::AutoGradMode records(true);
      output = segment_(leaves);
    }
    torch::autograd::backward({output}, {gradients[0]});
    torch::autograd::variable_list results;
    for (at::Tensor& leaf : leaves) results.push_back(std::move(leaf.mutable_grad()));
    return results;
  }

  void release_variables() override {
    const std::lock_guard lock(mutex_);
    for (torch::autograd::SavedVariable& input : inputs_) input.reset_data();
  }

 private:
  std::vector<at::Tensor> unpack() {
    const std::lock_guard lock(mutex_);
    std::vector<at::Tensor> leaves;
    for (std::size_t i = 0; i < inputs_.size(); ++i) {
      leaves.push_back(inputs_[i].unpack(getptr()).detach());
      leaves.back().set_requires_grad(next_edge(i).is_valid());
    }
    return leaves;
  }

  Segment segment_;
  std::vector<torch::autograd::SavedVariable> inputs_;
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
  torch::autograd::impl::set_post_acc_grad_hooks(leaf, std::make_unique<LeafHook>(gradient));
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
  LeafHook* const hook = hook_of(leaf);
  TORCH_CHECK(hook != nullptr && !hook->ready, "on_gradient_ready: the leaf has a callback already");
  hook->ready = std::move(ready);
}

void forget_gradient(const at::Tensor& leaf) {
  LeafHook* const hook = hook_of(leaf);
  TORCH_CHECK(hook != nullptr && hook->has_sum() && !leaf.grad().defined(),
              "forget_gradient: of rounded leaves alone");
  hook->forget();
}

bool has_gradient_sum(const at::Tensor& leaf) {
  const LeafHook* const hook = hook_of(leaf);
  return hook != nullptr && hook->has_sum();
}

bool has_wider_sum(const at::Tensor& leaf) {
  const LeafHook* const hook = hook_of(leaf);
  return hook != nullptr && hook->has_wider_sum(leaf);
}

GradientSum taken_sum(const at::Tensor& leaf) {
  LeafHook* const hook = hook_of(leaf);
  return hook == nullptr ? GradientSum{} : hook->take();
}

at::Tensor gradient_sum(const at::Tensor& leaf) { return begun_sum(taken_sum(leaf)); }

void gradient_added(const at::Tensor& leaf) {
  const LeafHook* const hook = hook_of(leaf);
  if (hook != nullptr && hook->ready) hook->ready();
}

void at_the_end_of_backward(std::function<void()> work) {
  torch::autograd::Engine::get_default_engine().queue_callback([work = std::move(work)] {
    const at::NoGradGuard no_grad;
    work();
  });
}

bool gradients_add_up(const std::vector<at::Tensor>& leaves) {
  const bool records = c10::GradMode::is_enabled();
  return std::all_of(leaves.begin(), leaves.end(), [records](const at::Tensor& leaf) {
    return has_gradient_sum(leaf) || (!records && !leaf.requires_grad());
  });
}

at::Tensor recompute(Segment segment, const std::vector<at::Tensor>& inputs) {
  const bool records = c10::GradMode::is_enabled() &&
                       std::any_of(inputs.begin(), inputs.end(),
                                   [](const at::Tensor& input) { return input.requires_grad(); });
  if (!records) return segment(inputs);
  at::Tensor output;
  {
    const c10::NoGradGuard no_grad;
    output = segment(inputs).detach();
  }
  const std::shared_ptr<torch::autograd::Node> backward(new SegmentBackward(std::move(segment), inputs),
                                                        torch::autograd::deleteNode);
  torch::autograd::set_history(output, backward);
  return output;
}

}  // namespace sluice::kernels
