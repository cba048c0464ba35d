#include "trainer/kernels/shared_gate.h"

#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/full_like.h>
#include <ATen/ops/gelu.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>
#include <gtest/gtest.h>

#include <cstdio>
#include <limits>
#include <string>
#include <vector>

#include "parallel/nccl_communicator.h"
#include "tests/support/cross_entropy_cases.h"
#include "tests/support/gpu_ranks.h"
#include "tests/support/kernel_tensors.h"
#include "tests/support/mpi_world.h"
#include "trainer/train/sequence_ranks.h"

// The spatial gating unit's products of ranks that share a sequence, by own kernels, against ATen in float64
// on the CPU: each rank's rows of what one rank would compute.
namespace sluice::kernels {
namespace {

using tests::gpu_of_rank;
using tests::mpi_world;
using tests::normal;
using tests::relative_error;
using tests::same_bits;

struct Case {
  std::int64_t batch;
  std::int64_t positions;
  std::int64_t width;
  Mixing mixing;
};

/// Tiles that the ranks divide and others, a short last one, and what own kernels do not take: odd rows of W.
const Case kCases[] = {{2, 512, 64, Mixing::kCausal},   {2, 512, 64, Mixing::kFull},
                       {3, 1288, 136, Mixing::kCausal}, {1, 2304, 320, Mixing::kCausal},
                       {2, 1160, 72, Mixing::kFull},    {2, 33, 24, Mixing::kCausal},
                       {9, 256, 32, Mixing::kCausal}};
constexpr ExchangeMode kModes[] = {ExchangeMode::kAllToAll, ExchangeMode::kRowShard, ExchangeMode::kRing};

std::string name_of(const Case& c, ExchangeMode mode) {
  return std::to_string(c.batch) + "x" + std::to_string(c.positions) + "x" + std::to_string(c.width) +
         (c.mixing == Mixing::kCausal ? " causal" : " full") + " mode " +
         std::to_string(static_cast<int>(mode));
}

at::Tensor exact(const at::Tensor& tensor) { return tensor.cpu().to(at::kDouble); }

/// What every rank draws alike, in bfloat16, and what comes of it in float64.
struct Whole {
  explicit Whole(const Case& c)
      : gate(rounded({c.batch, c.positions, c.width}, 1)),
        bypass(rounded({c.batch, c.positions, c.width}, 2)),
        bias(rounded({c.positions}, 3)),
        dmixed(rounded({c.batch, c.positions, c.width}, 4)),
        weight(rounded({c.positions, c.positions}, 5)) {
    const bool causal = c.mixing == Mixing::kCausal;
    const at::Tensor seen = causal ? exact(weight).tril() : exact(weight);
    mixed = at::matmul(seen, exact(gate)).add(exact(bias).unsqueeze(1));
    gated = at::gelu(exact(bypass)).mul(mixed);
    dgate = at::matmul(seen.t(), exact(dmixed));
    const at::Tensor full = at::matmul(exact(dmixed), exact(gate).transpose(1, 2)).sum(0);
    dweight = (causal ? full.tril() : full).add(1);
  }
  static at::Tensor rounded(at::IntArrayRef shape, std::uint64_t seed) {
    return normal(shape, seed).to(at::kBFloat16);
  }

  at::Tensor gate, bypass, bias, dmixed, weight;
  at::Tensor mixed, gated, dgate, dweight;
};

/// A rank's rows of all that; products and their gradients as a block would ask for them.
struct Shared {
  at::Tensor mixed, gated, dgate, dweight;
};

/// W's gradient is added to ones, or to what is given.
Shared share(const Case& c, const Whole& whole, const SequenceExchange& exchange, const at::Tensor& held,
             const GradientSum& into = {}) {
  const auto rows = [&](const at::Tensor& all, std::int64_t dim) {
    return all.index_select(dim, held).to(gpu_of_rank());
  };
  const bool dealt = exchange.mode() == ExchangeMode::kAllToAll;
  const at::Tensor weight = dealt ? whole.weight.to(gpu_of_rank()) : rows(whole.weight, 0);
  const at::Tensor gate = rows(whole.gate, 1);
  // u as a half of wider rows, as a block has it.
  const at::Tensor bypass = at::cat({rows(whole.bypass, 1), rows(whole.gate, 1)}, 2).narrow(2, 0, c.width);
  Shared out;
  const at::Tensor made = at::full_like(gate, 7);
  const GateWriter write = [&](std::int64_t first, std::int64_t count, const at::Tensor& again_Th) {
    made.narrow(0, first, count).copy_(gate.narrow(0, first, count));
    if (again_Th.defined()) again_Th.copy_(gate.narrow(0, first, count).flatten(0, 1));
  };
  const SpatialGate forward = share_gate(made, weight, c.mixing, exchange, write)
                                  ->mix(bypass, whole.bias.to(gpu_of_rank()), Keep::kMixed);
  EXPECT_TRUE(made.equal(gate));
  out.mixed = forward.mixed_BTh;
  out.gated = forward.gated_BTh;
  out.dweight = into.sum.defined() ? into.sum : at::ones(weight.sizes(), weight.options().dtype(at::kFloat));
  int done = 0;
  out.dgate =
      share_gate_again(gate, weight, c.mixing, exchange)
          ->back({out.dweight, into.before}, rows(whole.dmixed, 1), forward.diagonal, [&done] { ++done; });
  EXPECT_EQ(done, 1);
  return out;
}

/// With messages by NCCL's kernels, and by copy engines where these GPUs reach one another.
class SharedGateTest : public ::testing::TestWithParam<parallel::Movers> {
 protected:
  void SetUp() override {
    SLUICE_NEEDS_GPU();
    static_cast<void>(tests::gpu_world());
    parallel::enter_device(gpu_of_rank());
    ranks_ = parallel::make_nccl_communicator(mpi_world().split(0), gpu_of_rank(), {.movers = GetParam()});
  }
  void TearDown() override { ranks_.reset(); }

  [[nodiscard]] std::unique_ptr<SequenceExchange> exchange(const Case& c, ExchangeMode mode) const {
    const SequenceRows rows(c.positions, ranks_->size(), sequence_tile(c.positions, ranks_->size()));
    return train::make_sequence_exchange(*ranks_, rows, mode);
  }
  [[nodiscard]] static at::Tensor held_by(const SequenceExchange& exchange) {
    return at::tensor(exchange.rows().held(exchange.rank()));
  }

 private:
  std::unique_ptr<parallel::Communicator> ranks_;
};

TEST_P(SharedGateTest, IsNearFloat64) {
  constexpr double kBound = 1.2e-2;  // sums of two parts are rounded once more than one of all
  for (const Case& c : kCases) {
    const Whole whole(c);
    for (const ExchangeMode mode : kModes) {
      const auto ranks = exchange(c, mode);
      const at::Tensor held = held_by(*ranks);
      const Shared got = share(c, whole, *ranks, held);
      const auto rows = [&](const at::Tensor& all, std::int64_t dim) { return all.index_select(dim, held); };
      const double errors[] = {relative_error(got.mixed, rows(whole.mixed, 1), 0),
                               relative_error(got.gated, rows(whole.gated, 1), 0),
                               relative_error(got.dgate, rows(whole.dgate, 1), 0)};
      const std::string name = name_of(c, mode);
      for (int i = 0; i < 3; ++i) EXPECT_LE(errors[i], kBound) << name << " " << i;
      at::Tensor dweight = exact(got.dweight);
      double of_weight = 0;
      if (mode == ExchangeMode::kAllToAll) {  // the sum over ranks is the whole
        mpi_world().all_reduce(dweight, parallel::ReduceOp::kSum);
        of_weight =
            relative_error(dweight.sub(static_cast<double>(mpi_world().size() - 1)), whole.dweight, 0);
      } else {
        of_weight = relative_error(dweight, rows(whole.dweight, 0), 0);
      }
      EXPECT_LE(of_weight, kBound) << name;  // ATen rounds each sequence's, own kernels sum in float32
      if (mpi_world().rank() == 0)
        std::printf("%s: mixed %.1e, gated %.1e, input %.1e, weight %.1e\n", name.c_str(), errors[0],
                    errors[1], errors[2], of_weight);
    }
  }
}

TEST_P(SharedGateTest, HasTheSameBitsEachTime) {
  for (const Case& c : kCases) {
    const Whole whole(c);
    for (const ExchangeMode mode : kModes) {
      const auto ranks = exchange(c, mode);
      const at::Tensor held = held_by(*ranks);
      const Shared first = share(c, whole, *ranks, held);
      const Shared second = share(c, whole, *ranks, held);
      const std::string name = name_of(c, mode);
      EXPECT_TRUE(same_bits(first.mixed, second.mixed)) << name;
      EXPECT_TRUE(same_bits(first.gated, second.gated)) << name;
      EXPECT_TRUE(same_bits(first.dgate, second.dgate)) << name;
      EXPECT_TRUE(same_bits(first.dweight, second.dweight)) << name;
    }
  }
}

/// What a rank may find where W's gradient is to be: zeros, and NaN wherever it has one.
at::Tensor garbage(const Case& c, ExchangeMode mode, const at::Tensor& held) {
  const at::Tensor columns = at::arange(c.positions);
  const at::Tensor rows = mode == ExchangeMode::kAllToAll ? columns : held;
  at::Tensor sum = at::zeros({rows.numel(), c.positions});
  if (c.mixing == Mixing::kFull) return sum.fill_(std::numeric_limits<float>::quiet_NaN()).to(gpu_of_rank());
  sum.masked_fill_(columns.unsqueeze(0).le(rows.unsqueeze(1)), std::numeric_limits<float>::quiet_NaN());
  return sum.to(gpu_of_rank());
}

TEST_P(SharedGateTest, WritesOverNothingAsItAddsToZero) {
  for (const Case& c : kCases) {
    const Whole whole(c);
    for (const ExchangeMode mode : kModes) {
      const auto ranks = exchange(c, mode);
      const at::Tensor held = held_by(*ranks);
      const at::Tensor nothing = garbage(c, mode, held);
      const at::Tensor zero = at::zeros(nothing.sizes(), nothing.options());
      const Shared added = share(c, whole, *ranks, held, {zero});
      const Shared written = share(c, whole, *ranks, held, {nothing, Before::kNothing});
      EXPECT_TRUE(same_bits(written.dweight, added.dweight)) << name_of(c, mode);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Messages, SharedGateTest,
                         ::testing::Values(parallel::Movers::kNcclKernels, parallel::Movers::kCopyEngines),
                         [](const auto& each) {
                           return each.param == parallel::Movers::kNcclKernels ? "Kernels" : "CopyEngines";
                         });

}  // namespace
}  // namespace sluice::kernels
