#include "trainer/cli/command.h"
