#include "trainer/kernels/autograd.h"
