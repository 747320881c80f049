// The machine that the kernels are compiled for: a GPU, or a processor that stands in for one.
#pragma once

#ifdef __CUDACC__
#include "gpu.cuh"
#else
#include "host.h"
#endif
