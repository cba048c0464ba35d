#include "trainer/kernels/mlp_passes.h"

#include "trainer/kernels/fused_pass_cuda_internal.h"

namespace sluice::kernels {

at::Tensor gelu_forward(const at::Tensor& input, GeluForm form) {
  const Pass pass = pass_over("gelu_forward", input, input.scalar_type());
  pass.matrix(input, "input", pass.compute);
  const at::Tensor y = new_tensor(input, input.sizes(), pass.compute);
  launch::gelu_forward({.input = input.const_data_ptr(),
                        .y = y.mutable_data_ptr(),
                        .rows = pass.rows,
                        .width = pass.width,
                        .form = form},
                       fused_precision(input), fused_stream(input));
  return y;
}

at::Tensor gelu_backward(const at::Tensor& dy, const at::Tensor& input, GeluForm form,
                         const at::Tensor& input_sum, ColumnSums* later) {
  const Pass pass = pass_over("gelu_backward", input, input.scalar_type());
  pass.matrix(dy, "dy", pass.compute);
  pass.matrix(input, "input", pass.compute);
  pass.sum(input_sum, "input_sum");
  const at::Tensor dinput = new_tensor(input, input.sizes(), pass.compute);
  const at::Tensor partials = partials_of(pass, input, 1);
  const int blocks = launch::gelu_backward({.dy = dy.const_data_ptr(),
                                            .input = input.const_data_ptr(),
                                            .dinput = dinput.mutable_data_ptr(),
                                            .partials = partials.mutable_data_ptr<float>(),
                                            .rows = pass.rows,
                                            .width = pass.width,
                                            .form = form},
                                           fused_precision(input), fused_stream(input));
  add_sums(later, partials, blocks, {input_sum});
  return dinput;
}

at::Tensor join_columns(const std::array<at::Tensor, 3>& parts, const at::Tensor& sum, ColumnSums* later) {
  const Pass part = pass_over("join_columns", parts[0], parts[0].scalar_type());
  for (const at::Tensor& one : parts) part.matrix(one, "a part", part.compute);
  static_assert(launch::kJoined == std::tuple_size_v<std::remove_cvref_t<decltype(parts)>>);
  const at::Tensor joined = new_tensor(parts[0], {part.rows, launch::kJoined * part.width}, part.compute);
  const Pass pass = pass_over(part.name, joined, part.compute);
  pass.sum(sum, "sum");
  const at::Tensor partials = partials_of(pass, joined, 1);
  const int blocks = launch::join_columns(
      {.parts = {parts[0].const_data_ptr(), parts[1].const_data_ptr(), parts[2].const_data_ptr()},
       .joined = joined.mutable_data_ptr(),
       .partials = partials.mutable_data_ptr<float>(),
       .rows = pass.rows,
       .width = pass.width},
      fused_precision(joined), fused_stream(joined));
  add_sums(later, partials, blocks, {sum});
  return joined;
}

}  // namespace sluice::kernels
