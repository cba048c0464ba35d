// A test program that fails on some ranks on purpose: shows that tests/support/mpi_main.cpp reports it and
// all ranks exit so.
#include <gtest/gtest.h>

#include "tests/support/mpi_world.h"

TEST(Failing, OnRankOneOnly) {
  EXPECT_NE(sluice::tests::mpi_world().rank(), 1) << "seen by nobody but rank 1";
}

TEST(Failing, Nowhere) { EXPECT_EQ(sluice::tests::mpi_world().size(), 3); }
