#pragma once

#include <array>
#include <cstdint>
#include <string>

namespace sluice::optim {

/// [optim] of a run.
struct OptimOptions {
  std::string kind = "adamw";       ///< adamw (decoupled decay) | adam (decay added to the gradient)
  double lr = 1e-3;                 ///< peak; for noam the factor of d_model^-0.5
  std::string schedule = "cosine";  ///< constant | linear | cosine | wsd | noam
  std::int64_t warmup_steps = 0;
  double min_lr = 0.1;          ///< end of linear, cosine and wsd, as a fraction of lr
  double decay_fraction = 0.2;  ///< wsd: share of the steps that decay
  std::array<double, 2> betas = {0.9, 0.95};
  double eps = 1e-8;
  double weight_decay = 0.1;
  double clip = 1.0;  ///< global gradient norm; 0: none
};

}  // namespace sluice::optim
