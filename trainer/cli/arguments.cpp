#include "trainer/cli/arguments.h"
