#include "trainer/kernels/sharded_mixing.h"

#include <ATen/ops/cat.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros_like.h>
#include <gtest/gtest.h>
#include <rapidcheck.h>

#include <functional>
#include <mutex>
#include <vector>

#include "parallel/thread_communicator.h"
#include "tests/support/small_model.h"
#include "trainer/kernels/attention.h"
#include "trainer/kernels/sharded_attention.h"
#include "trainer/train/sequence_ranks.h"

// Whatever the sharding, ranks together make what one rank makes of whole sequences, and its gradients.

namespace sluice::train {
namespace {

using kernels::ExchangeMode;
using kernels::Mixing;
using kernels::SequenceExchange;
using kernels::SequenceRows;
using kernels::SpatialKind;
using sluice::testing::relative_error;

constexpr double kBound = 1e-12;

at::Tensor draw(std::vector<std::int64_t> shape) {
  return at::randn(shape, at::TensorOptions().dtype(at::kDouble));
}

at::Tensor leaf(const at::Tensor& values) { return values.detach().clone().requires_grad_(true); }

at::Tensor rows_of(const at::Tensor& whole, std::int64_t dim, const SequenceRows& rows, std::int64_t rank) {
  return whole.index_select(dim, at::tensor(rows.held(rank)));
}

/// How a sequence is dealt, and what travels.
struct Sharding {
  SequenceRows rows;
  ExchangeMode mode = ExchangeMode::kRing;
};

Sharding draw_sharding() {
  const auto ranks = *rc::gen::inRange<std::int64_t>(1, 5);
  const auto positions = *rc::gen::inRange<std::int64_t>(ranks, 40);
  const auto tile = *rc::gen::inRange<std::int64_t>(1, positions / ranks + 1);
  const auto mode = *rc::gen::element(ExchangeMode::kAllToAll, ExchangeMode::kRowShard, ExchangeMode::kRing);
  return {SequenceRows(positions, ranks, tile), mode};
}

void on_ranks(const Sharding& sharding, const std::function<void(const SequenceExchange&)>& work) {
  parallel::run_thread_ranks(sharding.rows.ranks(), [&](parallel::Communicator& world) {
    const auto exchange = make_sequence_exchange(world, sharding.rows, sharding.mode);
    work(*exchange);
  });
}

/// Of a product over positions, or of its ranks taken together.
struct Mixed {
  at::Tensor out_Btc;
  at::Tensor dgate_Btc;
  at::Tensor dweight;
  at::Tensor dbias;
};

/// Gradients of the sum of out x dout.
template <typename Mix>
Mixed differentiate(const at::Tensor& gate_Btc, const at::Tensor& weight, const at::Tensor& bias,
                    const at::Tensor& dout_Btc, const Mix& mix) {
  const at::Tensor gate = leaf(gate_Btc);
  const at::Tensor w = leaf(weight);
  const at::Tensor b = leaf(bias);
  const at::Tensor out = mix(gate, w, b);
  out.mul(dout_Btc).sum().backward();
  return {out.detach(), gate.grad(), w.grad(), b.grad()};
}

TEST(ShardedMixing, AnyShardingGivesTheProductOfOneRankAndItsGradients) {
  EXPECT_TRUE(rc::check("mix_sharded_positions is mix_positions", [] {
    Sharding sharding = draw_sharding();
    const std::int64_t n = sharding.rows.positions();
    kernels::SpatialMix mix;
    mix.kind = *rc::gen::element(SpatialKind::kFree, SpatialKind::kToeplitz);
    mix.mixing = *rc::gen::element(Mixing::kCausal, Mixing::kFull);
    mix.heads = sharding.mode == ExchangeMode::kAllToAll ? 1 : *rc::gen::inRange<std::int64_t>(1, 4);
    const SequenceRows of_model = sharding.rows;
    sharding.rows = of_model.first(*rc::gen::inRange<std::int64_t>(1, n + 1));  // a short sequence
    const std::int64_t t = sharding.rows.positions();
    const auto batch = *rc::gen::inRange<std::int64_t>(1, 4);
    const std::int64_t channels = mix.heads * *rc::gen::inRange<std::int64_t>(1, 6);
    std::vector<std::int64_t> of_heads;
    if (mix.heads > 1) of_heads.push_back(mix.heads);
    const auto shape = [&](std::vector<std::int64_t> last) {
      std::vector<std::int64_t> all = of_heads;
      all.insert(all.end(), last.begin(), last.end());
      return all;
    };
    const at::Tensor gate = draw({batch, t, channels});
    const at::Tensor dout = draw({batch, t, channels});
    const bool free = mix.kind == SpatialKind::kFree;
    const at::Tensor weight = draw(free ? shape({n, n}) : shape({2 * n - 1}));
    const at::Tensor bias = draw(shape({n}));
    const auto with = [&](const at::Tensor& w, const at::Tensor& b) {
      kernels::SpatialMix own = mix;
      own.weight = w;
      own.bias = b;
      return own;
    };
    const Mixed want = differentiate(gate, weight, bias, dout, [&](auto& g, auto& w, auto& b) {
      return kernels::mix_positions(g, with(w, b));
    });
    const bool by_rows = free && sharding.mode != ExchangeMode::kAllToAll;
    Mixed found{at::zeros_like(gate), at::zeros_like(gate), at::zeros_like(weight), at::zeros_like(bias)};
    std::mutex mutex;
    on_ranks(sharding, [&](const SequenceExchange& exchange) {
      const std::int64_t rank = exchange.rank();
      const Mixed own = differentiate(
          rows_of(gate, 1, sharding.rows, rank), by_rows ? rows_of(weight, -2, of_model, rank) : weight, bias,
          rows_of(dout, 1, sharding.rows, rank),
          [&](auto& g, auto& w, auto& b) { return kernels::mix_sharded_positions(g, with(w, b), exchange); });
      const std::lock_guard lock(mutex);
      const at::Tensor held = at::tensor(sharding.rows.held(rank));
      found.out_Btc.index_add_(1, held, own.out_Btc);
      found.dgate_Btc.index_add_(1, held, own.dgate_Btc);
      found.dbias.add_(own.dbias);
      if (by_rows)
        found.dweight.index_add_(-2, at::tensor(of_model.held(rank)), own.dweight);
      else
        found.dweight.add_(own.dweight);
    });
    RC_ASSERT(relative_error(found.out_Btc, want.out_Btc) < kBound);
    RC_ASSERT(relative_error(found.dgate_Btc, want.dgate_Btc) < kBound);
    RC_ASSERT(relative_error(found.dweight, want.dweight) < kBound);
    RC_ASSERT(relative_error(found.dbias, want.dbias) < kBound);
  }));
}

TEST(ShardedMixing, AnyShardingGivesTheAttentionOfOneRankAndItsGradients) {
  EXPECT_TRUE(rc::check("sharded_attention is attention", [] {
    const Sharding sharding = draw_sharding();
    const std::int64_t n = sharding.rows.positions();
    const auto heads = *rc::gen::inRange<std::int64_t>(1, 9);  // divided by the ranks or not
    const auto mixing = *rc::gen::element(Mixing::kCausal, Mixing::kFull);
    const auto biased = *rc::gen::arbitrary<bool>();
    const std::vector<std::int64_t> shape{*rc::gen::inRange<std::int64_t>(1, 3), heads, n,
                                          *rc::gen::inRange<std::int64_t>(1, 5)};
    const at::Tensor q = draw(shape), k = draw(shape), v = draw(shape), dout = draw(shape);
    const at::Tensor bias = draw({heads, n, n});
    struct Attended {
      at::Tensor out, dq, dk, dv, dbias;
    };
    const auto run = [&](const std::vector<at::Tensor>& qkvd, const auto& attend) {
      const at::Tensor q_ = leaf(qkvd[0]), k_ = leaf(qkvd[1]), v_ = leaf(qkvd[2]), bias_ = leaf(bias);
      const at::Tensor out = attend(q_, k_, v_, biased ? bias_ : at::Tensor());
      out.mul(qkvd[3]).sum().backward();
      return Attended{out.detach(), q_.grad(), k_.grad(), v_.grad(),
                      biased ? bias_.grad() : at::zeros_like(bias)};
    };
    const Attended want = run({q, k, v, dout}, [&](auto& q_, auto& k_, auto& v_, const at::Tensor& bias_) {
      return kernels::attention(q_, k_, v_, mixing, {}, bias_);
    });
    Attended found{at::zeros_like(q), at::zeros_like(q), at::zeros_like(q), at::zeros_like(q),
                   at::zeros_like(bias)};
    std::mutex mutex;
    on_ranks(sharding, [&](const SequenceExchange& exchange) {
      std::vector<at::Tensor> own;
      for (const at::Tensor& whole : {q, k, v, dout})
        own.push_back(rows_of(whole, 2, sharding.rows, exchange.rank()));
      const Attended part = run(own, [&](auto& q_, auto& k_, auto& v_, const at::Tensor& bias_) {
        return kernels::sharded_attention(q_, k_, v_, mixing, exchange, bias_);
      });
      const std::lock_guard lock(mutex);
      const at::Tensor held = at::tensor(sharding.rows.held(exchange.rank()));
      found.out.index_add_(2, held, part.out);
      found.dq.index_add_(2, held, part.dq);
      found.dk.index_add_(2, held, part.dk);
      found.dv.index_add_(2, held, part.dv);
      found.dbias.add_(part.dbias);
    });
    RC_ASSERT(relative_error(found.out, want.out) < kBound);
    RC_ASSERT(relative_error(found.dq, want.dq) < kBound);
    RC_ASSERT(relative_error(found.dk, want.dk) < kBound);
    RC_ASSERT(relative_error(found.dv, want.dv) < kBound);
    RC_ASSERT(relative_error(found.dbias, want.dbias) < kBound);
  }));
}

}  // namespace
}  // namespace sluice::train
