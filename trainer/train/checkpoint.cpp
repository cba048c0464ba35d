#include "trainer/train/checkpoint.h"
