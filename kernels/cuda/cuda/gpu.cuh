// What the kernels need of the machine, on a GPU: the lines of PTX, and what a kernel is.
//
// A line with `cc` in its name leaves a carry (or a borrow) behind, one with `c` after its verb takes
// one in. On the GPU that carry is a flag which the compiler does not see, so the lines are volatile
// and keep their order; the argument of type Carry has no contents here, and says which lines belong
// to one chain. The emulation has the same lines with a Carry that holds the bit
// (`emulation/host.h`), so that the chains themselves are what is tested on a processor.
//
// The hardware multiplies 32 by 32 bits and adds 64 in one instruction, IMAD.WIDE. PTX has no line
// for that with a carry; ptxas makes it of a mad.lo.cc and the madc.hi.cc of the same factors that
// follows. `field.cuh` is written in such pairs.
#pragma once

#define DEVICE __device__ __forceinline__
#define OUTLINE __device__ __noinline__
#define UNROLL _Pragma("unroll")
#define ROLLED _Pragma("unroll 1")
#define SHARED __shared__
#define SYNC() __syncthreads()

// A kernel takes one structure of words of 64 bits, so that launching one needs no knowledge of it.
#define KERNEL(name, Args, threads, blocks) \
    extern "C" __global__ void __launch_bounds__(threads, blocks) \
    name(const __grid_constant__ Args a)
// The same for a kernel that has barriers.
#define KERNEL_SHARED(name, Args, threads, blocks) KERNEL(name, Args, threads, blocks)

typedef unsigned int u32;
typedef unsigned long long u64;

struct Carry {};

#define LINE2(name, instruction) \
    DEVICE u32 name(Carry &, u32 x, u32 y) { \
        u32 z; \
        asm volatile(instruction " %0, %1, %2;" : "=r"(z) : "r"(x), "r"(y)); \
        return z; \
    }
#define LINE3(name, instruction) \
    DEVICE u32 name(Carry &, u32 x, u32 y, u32 w) { \
        u32 z; \
        asm volatile(instruction " %0, %1, %2, %3;" : "=r"(z) : "r"(x), "r"(y), "r"(w)); \
        return z; \
    }

LINE2(add_cc, "add.cc.u32")
LINE2(addc_cc, "addc.cc.u32")
LINE2(addc, "addc.u32")
LINE2(sub_cc, "sub.cc.u32")
LINE2(subc_cc, "subc.cc.u32")
LINE2(subc, "subc.u32")
LINE3(mad_lo_cc, "mad.lo.cc.u32")
LINE3(madc_lo_cc, "madc.lo.cc.u32")
LINE3(madc_hi_cc, "madc.hi.cc.u32")
LINE3(madc_hi, "madc.hi.u32")

#undef LINE2
#undef LINE3

// The same value, in one register from here on. Of words that come from memory the compiler otherwise
// makes several copies, and ptxas does not see that a lo and its hi have the same factors.
DEVICE u32 held(u32 x) {
    u32 z;
    asm volatile("mov.b32 %0, %1;" : "=r"(z) : "r"(x));
    return z;
}

DEVICE u32 multiply_lo(u32 x, u32 y) { return x * y; }
DEVICE u32 multiply_hi(u32 x, u32 y) { return __umulhi(x, y); }

// The thread's number in its grid, and in its block.
DEVICE u64 thread_of_grid() { return (u64)blockIdx.x * blockDim.x + threadIdx.x; }
DEVICE u32 thread_of_block() { return threadIdx.x; }
DEVICE u32 block_of_grid() { return blockIdx.x; }

DEVICE u32 atomic_add(u32 *at, u32 value) { return atomicAdd(at, value); }
// One more in global memory, with no answer. A line of PTX, for the compiler makes one instruction, with an answer, of this and an
// addition to the same place on the other branch.
DEVICE void atomic_count(u32 *at) {
    asm volatile("red.relaxed.gpu.global.add.u32 [%0], 1;" ::"l"(__cvta_generic_to_global(at)));
}
DEVICE void atomic_max(u32 *at, u32 value) { atomicMax(at, value); }
