#include "work.h"

const char no_memory[] = "no memory", no_room[] = "no room";
