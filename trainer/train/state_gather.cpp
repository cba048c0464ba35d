#include "trainer/train/state_gather.h"

#include <ATen/ops/empty.h>
#include <c10/util/Exception.h>

#include <algorithm>
#include <cstdint>
#include <functional>

#include "parallel/device_stream.h"
#include "parallel/device_wait.h"

namespace sluice::train {

namespace {

bool is_whole(const parallel::ArenaLayout& layout, const at::Tensor& state) {
  if (state.numel() == layout.size()) return true;
  TORCH_CHECK(state.numel() * layout.world() == layout.size(), "a state of ", state.numel(),
              " elements is neither the whole of ", layout.size(), " nor a slice of ", layout.world());
  return false;
}

/// Room for the largest bucket, where `state` lives.
at::Tensor make_scratch(const parallel::ArenaLayout& layout, const at::Tensor& state) {
  std::int64_t largest = 0;
  for (const parallel::Bucket& bucket : layout.buckets()) largest = std::max(largest, bucket.numel());
  return at::empty({largest}, state.options());
}

/// Calls `visit(bucket, own, chunk)` for every bucket by ascending begin: the bucket's elements of the whole,
/// this rank's slice of it in the compact state, and where that slice lies in the bucket.
using BucketVisit =
    std::function<void(const parallel::Range& bucket, const at::Tensor& own, const parallel::Range& chunk)>;

void for_each_bucket(const parallel::ArenaLayout& layout, const at::Tensor& state, std::int64_t rank,
                     const BucketVisit& visit) {
  std::int64_t done = 0;
  for (std::int64_t index = std::ssize(layout.buckets()); index-- > 0;) {
    const parallel::Bucket& bucket = layout.buckets()[static_cast<std::size_t>(index)];
    const parallel::Range slice = layout.slice(index, rank);
    visit({bucket.begin, bucket.end}, state.narrow(0, done, slice.numel()),
          {slice.begin - bucket.begin, slice.end - bucket.begin});
    done += slice.numel();
  }
}

void copy_out(const at::Tensor& to, const at::Tensor& from) {
  if (from.is_cuda())
    parallel::copy_to_host(to, from);
  else
    to.copy_(from);
}

/// On a GPU all of it is only enqueued.
void gather(const parallel::ArenaLayout& layout, const at::Tensor& live, const at::Tensor& host,
            parallel::Communicator& communicator) {
  const bool here = communicator.rank() == 0;
  if (is_whole(layout, live)) {
    if (here) copy_out(host, live);
    return;
  }
  const at::Tensor scratch = make_scratch(layout, live);
  for_each_bucket(layout, live, communicator.rank(),
                  [&](const parallel::Range& bucket, const at::Tensor& own, const parallel::Range& chunk) {
                    const at::Tensor values = scratch.narrow(0, 0, bucket.numel());
                    values.narrow(0, chunk.begin, chunk.numel()).copy_(own);
                    communicator.all_gather_async(values).wait();
                    if (here) copy_out(host.narrow(0, bucket.begin, bucket.numel()), values);
                  });
}

}  // namespace

at::Tensor whole_buffer(const parallel::ArenaLayout& layout, const at::Tensor& live) {
  return is_whole(layout, live) ? live : layout.allocate(live.scalar_type(), at::kCPU);
}

StateBuffers whole_buffers(const parallel::ArenaLayout& layout, const StateBuffers& live) {
  return {.parameters = whole_buffer(layout, live.parameters),
          .first_moment = whole_buffer(layout, live.first_moment),
          .second_moment = whole_buffer(layout, live.second_moment)};
}

void share_buffer(const parallel::ArenaLayout& layout, const at::Tensor& whole, const at::Tensor& live,
                  parallel::Communicator& communicator) {
  if (is_whole(layout, live)) {
    communicator.broadcast(live, 0);
    return;
  }
  const at::Tensor scratch = make_scratch(layout, live);
  for_each_bucket(layout, live, communicator.rank(),
                  [&](const parallel::Range& bucket, const at::Tensor& own, const parallel::Range& chunk) {
                    const at::Tensor values = scratch.narrow(0, 0, bucket.numel());
                    if (communicator.rank() == 0) values.copy_(whole.narrow(0, bucket.begin, bucket.numel()));
                    communicator.broadcast(values, 0);
                    own.copy_(values.narrow(0, chunk.begin, chunk.numel()));
                  });
}

void share_state(const parallel::ArenaLayout& layout, const StateBuffers& whole, const StateBuffers& live,
                 parallel::Communicator& communicator) {
  share_buffer(layout, whole.parameters, live.parameters, communicator);
  share_buffer(layout, whole.first_moment, live.first_moment, communicator);
  share_buffer(layout, whole.second_moment, live.second_moment, communicator);
}

void gather_state(const parallel::ArenaLayout& layout, const StateBuffers& live, const StateBuffers& host,
                  parallel::Communicator& communicator) {
  gather(layout, live.parameters, host.parameters, communicator);
  gather(layout, live.first_moment, host.first_moment, communicator);
  gather(layout, live.second_moment, host.second_moment, communicator);
}

void gather_state_now(const parallel::ArenaLayout& layout, const StateBuffers& live, const StateBuffers& host,
                      parallel::Communicator& communicator) {
  gather_state(layout, live, host, communicator);
  if (!live.parameters.is_cuda()) return;
  parallel::DeviceEvent done;
  done.record();
  parallel::wait_for_event(done, communicator, "copy of the state from the GPU");
}

}  // namespace sluice::train
