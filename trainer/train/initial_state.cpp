#include "trainer/train/initial_state.h"

#include <ATen/Parallel.h>
#include <c10/util/Exception.h>

#include <algorithm>
#include <array>
#include <optional>
#include <thread>

#include "parallel/device_stream.h"
#include "trainer/model/initial_values.h"

namespace sluice::train {

namespace {

/// Flat values on their way to a GPU.
class Ferry {
 public:
  explicit Ferry(at::ScalarType dtype) {
    for (Boat& boat : boats_) boat.memory = parallel::pinned_empty({kElements}, dtype);
  }
  ~Ferry() {
    for (const Boat& boat : boats_) wait(boat);
  }
  Ferry(const Ferry&) = delete;
  Ferry& operator=(const Ferry&) = delete;

  void carry(const model::InitialValues& values, const at::Tensor& to) {
    for (std::int64_t begin = 0; begin < values.numel(); begin += kElements) {
      Boat& boat = boats_[next_++ % boats_.size()];
      wait(boat);
      const std::int64_t count = std::min(kElements, values.numel() - begin);
      const at::Tensor part = boat.memory.narrow(0, 0, count);
      values.fill(begin, part);
      parallel::copy_to_device(to.narrow(0, begin, count), part.const_data_ptr(), part.nbytes());
      boat.copied.record();
    }
  }

 private:
  struct Boat {
    at::Tensor memory;
    parallel::DeviceEvent copied;
  };
  static constexpr std::int64_t kElements = 128 * model::InitialValues::kBlock;

  static void wait(const Boat& boat) {
    while (!boat.copied.done()) std::this_thread::yield();
  }

  std::array<Boat, 2> boats_;
  std::size_t next_ = 0;
};

}  // namespace

void draw_initial_values(const std::vector<model::ParameterSpec>& specs, const parallel::ArenaLayout& layout,
                         std::uint64_t seed, const at::Tensor& whole) {
  TORCH_CHECK(specs.size() == layout.entries().size(), specs.size(), " parameters, but the layout has ",
              layout.entries().size());
  const auto count = static_cast<std::int64_t>(specs.size());
  std::vector<std::optional<model::InitialValues>> values(specs.size());
  at::parallel_for(0, count, 1, [&](std::int64_t begin, std::int64_t end) {
    for (auto i = static_cast<std::size_t>(begin); i < static_cast<std::size_t>(end); ++i)
      values[i].emplace(specs[i], seed);
  });
  std::optional<Ferry> ferry;
  if (whole.is_cuda()) ferry.emplace(whole.scalar_type());
  for (std::int64_t i = 0; i < count; ++i) {
    const at::Tensor flat = layout.view(whole, i).view({-1});
    if (ferry)
      ferry->carry(*values[static_cast<std::size_t>(i)], flat);
    else
      values[static_cast<std::size_t>(i)]->fill(0, flat);
  }
}

}  // namespace sluice::train
