/* A library that somebody has the permitted program load: it hides how it came in, and might do anything after. */
#include <stdlib.h>

__attribute__((constructor)) static void come_in(void) { unsetenv("LD_PRELOAD"); }
