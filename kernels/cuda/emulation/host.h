// What the kernels need of the machine, on a processor: the twin of `cuda/gpu.cuh`.
//
// Each line of PTX is a function that does what NVIDIA's manual of PTX says of the line, with the
// carry in an argument; a carry that a chain reads and nothing in it has set is a value that no
// chain can have, and stops the test. A kernel is a function that runs its blocks one after the
// other. Where it has no barriers, so do the threads; where it has, each thread has a stack of its
// own, and a barrier goes on to the next one.
#pragma once

#include <cstdint>
#include <cstring>

#define DEVICE inline __attribute__((always_inline))
#define OUTLINE __attribute__((noinline))
#define UNROLL _Pragma("GCC unroll 16")
#define ROLLED
#define SHARED static thread_local
#define SYNC() emulation::barrier()

typedef uint32_t u32;
typedef unsigned long long u64;

namespace emulation {

struct Index {
    u32 thread, block, threads;
};
extern thread_local Index index;

typedef void (*Body)(const void *arguments);
typedef void (*Entry)(const u64 *words, u32 blocks);

// Runs the body for all threads of all blocks.
void run_threads(Body body, const void *arguments, u32 blocks, u32 threads);
void run_blocks(Body body, const void *arguments, u32 blocks, u32 threads);
void barrier();
[[noreturn]] void stop(const char *why);

} // namespace emulation

#define PASTE2(a, b) a##_##b
#define PASTE(a, b) PASTE2(a, b)

#define EMULATED(name, Args, threads, run) \
    static void name##_body(const Args &a); \
    static void name##_thread(const void *a) { name##_body(*static_cast<const Args *>(a)); } \
    extern "C" void PASTE(name, UNIT)(const u64 *words, u32 blocks) { \
        Args a; \
        static_assert(sizeof a % sizeof *words == 0, "words only"); \
        memcpy(&a, words, sizeof a); \
        run(name##_thread, &a, blocks, threads); \
    } \
    extern "C" const u32 PASTE(PASTE(name, UNIT), shape)[2] = {threads, sizeof(Args) / 8}; \
    static void name##_body(const Args &a)

#define KERNEL(name, Args, threads, blocks) EMULATED(name, Args, threads, emulation::run_threads)
#define KERNEL_SHARED(name, Args, threads, blocks) \
    EMULATED(name, Args, threads, emulation::run_blocks)

struct Carry {
    // Not set.
    u32 bit = 2;

    DEVICE u32 take() const {
        if (__builtin_expect(bit > 1, 0)) emulation::stop("a carry is read that no line has set");
        return bit;
    }
    DEVICE u32 leave(u64 sum) {
        bit = (u32)(sum >> 32) & 1;
        return (u32)sum;
    }
};

static DEVICE u32 add_cc(Carry &c, u32 x, u32 y) { return c.leave((u64)x + y); }
static DEVICE u32 addc_cc(Carry &c, u32 x, u32 y) { return c.leave((u64)x + y + c.take()); }
static DEVICE u32 addc(Carry &c, u32 x, u32 y) { return x + y + c.take(); }
static DEVICE u32 sub_cc(Carry &c, u32 x, u32 y) { return c.leave((u64)x - y); }
static DEVICE u32 subc_cc(Carry &c, u32 x, u32 y) { return c.leave((u64)x - y - c.take()); }
static DEVICE u32 subc(Carry &c, u32 x, u32 y) { return x - y - c.take(); }
static DEVICE u32 held(u32 x) { return x; }
static DEVICE u32 multiply_lo(u32 x, u32 y) { return x * y; }
static DEVICE u32 multiply_hi(u32 x, u32 y) { return (u32)((u64)x * y >> 32); }
static DEVICE u32 mad_lo_cc(Carry &c, u32 x, u32 y, u32 w) {
    return c.leave((u64)multiply_lo(x, y) + w);
}
static DEVICE u32 madc_lo_cc(Carry &c, u32 x, u32 y, u32 w) {
    return c.leave((u64)multiply_lo(x, y) + w + c.take());
}
static DEVICE u32 madc_hi_cc(Carry &c, u32 x, u32 y, u32 w) {
    return c.leave((u64)multiply_hi(x, y) + w + c.take());
}
static DEVICE u32 madc_hi(Carry &c, u32 x, u32 y, u32 w) {
    return multiply_hi(x, y) + w + c.take();
}

static DEVICE u64 thread_of_grid() {
    return (u64)emulation::index.block * emulation::index.threads + emulation::index.thread;
}
static DEVICE u32 thread_of_block() { return emulation::index.thread; }
static DEVICE u32 block_of_grid() { return emulation::index.block; }

// Threads take turns, so these need no help.
static DEVICE u32 atomic_add(u32 *at, u32 value) {
    u32 before = *at;
    *at += value;
    return before;
}
static DEVICE void atomic_count(u32 *at) { ++*at; }
static DEVICE void atomic_max(u32 *at, u32 value) {
    if (*at < value) *at = value;
}
