#include "trainer/cli/option_table.h"
