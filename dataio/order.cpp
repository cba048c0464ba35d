#include "dataio/order.h"
