#include "parallel/communicator.h"

#include <ATen/ops/zeros.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <stdexcept>

#include "parallel/agree.h"
#include "parallel/thread_communicator.h"
#include "tests/support/communicator_conformance.h"

namespace sluice::tests {
namespace {

using parallel::Communicator;
using ::testing::HasSubstr;

struct Place {
  std::string name;
  void (*run)(const std::function<void(Communicator&)>&);
};

template <int kRanks>
void on_threads(const std::function<void(Communicator&)>& body) {
  parallel::run_thread_ranks(kRanks, body);
}

void on_local(const std::function<void(Communicator&)>& body) { body(*parallel::make_local_communicator()); }

const std::vector<Place>& places() {
  static const std::vector<Place> all = {{"Local", on_local},
                                         {"Thread1", on_threads<1>},
                                         {"Thread2", on_threads<2>},
                                         {"Thread3", on_threads<3>},
                                         {"Thread4", on_threads<4>}};
  return all;
}

class Conformance : public testing::TestWithParam<std::tuple<Place, ConformanceCase>> {};

TEST_P(Conformance, Holds) {
  const auto& [place, one] = GetParam();
  place.run([&one = one](Communicator& ranks) { one.run(ranks); });
}

INSTANTIATE_TEST_SUITE_P(Communicators, Conformance,
                         testing::Combine(testing::ValuesIn(places()),
                                          testing::ValuesIn(conformance_cases())),
                         [](const auto& one) {
                           return std::get<0>(one.param).name + std::get<1>(one.param).name;
                         });

TEST(ThreadRanks, RethrowTheRootCauseAndWakeTheOthers) {
  for (const std::int64_t faulty : {0, 1, 2}) {
    std::atomic<int> woken = 0;
    try {
      parallel::run_thread_ranks(3, [&](Communicator& ranks) {
        if (ranks.rank() == faulty) throw std::domain_error("tilt");
        try {
          ranks.barrier();
        } catch (const parallel::PeerError& error) {
          EXPECT_THAT(error.what(), HasSubstr("rank " + std::to_string(faulty) + " threw: tilt"));
          ++woken;
          throw;
        }
      });
      ADD_FAILURE() << "nothing was thrown";
    } catch (const std::domain_error& error) {
      EXPECT_STREQ(error.what(), "tilt");
    }
    EXPECT_EQ(woken, 2);
  }
}

TEST(ThreadRanks, NameWhoIsOutOfStep) {
  try {
    parallel::run_thread_ranks(2, [](Communicator& ranks) {
      if (ranks.rank() == 0) {
        ranks.barrier();
      } else {
        (void)ranks.all_gather("x");
      }
    });
    ADD_FAILURE() << "nothing was thrown";
  } catch (const parallel::PeerError& error) {
    EXPECT_THAT(error.what(), HasSubstr("rank 0 barrier, rank 1 all_gather"));
  }
}

TEST(ThreadRanks, NameWhoLeftEarly) {
  try {
    parallel::run_thread_ranks(3, [](Communicator& ranks) {
      if (ranks.rank() != 1) ranks.barrier();
    });
    ADD_FAILURE() << "nothing was thrown";
  } catch (const parallel::PeerError& error) {
    EXPECT_THAT(error.what(), HasSubstr("rank 1 returned"));
  }
}

TEST(ThreadRanks, AFaultSeenOnlyByADestructorIsThrownByTheNextOperation) {
  EXPECT_THROW(parallel::run_thread_ranks(2,
                                          [](Communicator& ranks) {
                                            if (ranks.rank() == 1) return;
                                            const at::Tensor tensor = at::zeros({8}, at::kFloat);
                                            {
                                              const auto work =
                                                  ranks.all_reduce_async(tensor, parallel::ReduceOp::kSum);
                                            }
                                            EXPECT_THROW(ranks.barrier(), parallel::PeerError);
                                            throw std::domain_error("seen");
                                          }),
               std::domain_error);
}

TEST(LocalDeathTest, AbortEndsTheProcessWithItsCode) {
  EXPECT_EXIT(parallel::make_local_communicator()->abort(23), testing::ExitedWithCode(23), "");
}

}  // namespace
}  // namespace sluice::tests
