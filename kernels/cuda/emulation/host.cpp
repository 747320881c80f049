// Blocks and barriers on a processor. See host.h.
#include "host.h"

#include <cstdio>
#include <cstdlib>
#include <memory>
#include <ucontext.h>
#include <vector>

namespace emulation {

thread_local Index index;

namespace {

constexpr size_t STACK = 128 * 1024;

struct Fibre {
    ucontext_t context;
    std::unique_ptr<char[]> stack{new char[STACK]};
    bool ended;
};

// The threads of a block, and what they return to.
struct Block {
    ucontext_t scheduler;
    std::vector<Fibre> fibres;
    Body body;
    const void *arguments;
};

thread_local Block block;

void begin() {
    block.body(block.arguments);
    block.fibres[index.thread].ended = true;
    // The context's successor is the scheduler.
}

} // namespace

void stop(const char *why) {
    fprintf(stderr, "emulation: block %u, thread %u: %s\n", index.block, index.thread, why);
    abort();
}

void barrier() {
    swapcontext(&block.fibres[index.thread].context, &block.scheduler);
}

void run_threads(Body body, const void *arguments, u32 blocks, u32 threads) {
    index.threads = threads;
    for (index.block = 0; index.block < blocks; index.block++)
        for (index.thread = 0; index.thread < threads; index.thread++) body(arguments);
}

void run_blocks(Body body, const void *arguments, u32 blocks, u32 threads) {
    block.body = body;
    block.arguments = arguments;
    if (block.fibres.size() < threads) block.fibres = std::vector<Fibre>(threads);
    index.threads = threads;
    for (index.block = 0; index.block < blocks; index.block++) {
        for (u32 i = 0; i < threads; i++) {
            Fibre &fibre = block.fibres[i];
            fibre.ended = false;
            getcontext(&fibre.context);
            fibre.context.uc_stack.ss_sp = fibre.stack.get();
            fibre.context.uc_stack.ss_size = STACK;
            fibre.context.uc_link = &block.scheduler;
            makecontext(&fibre.context, begin, 0);
        }
        for (u32 ended = 0; ended < threads;) {
            ended = 0;
            for (index.thread = 0; index.thread < threads; index.thread++) {
                swapcontext(&block.scheduler, &block.fibres[index.thread].context);
                ended += block.fibres[index.thread].ended;
            }
            if (ended != 0 && ended != threads) stop("a barrier that some threads do not reach");
        }
    }
}

} // namespace emulation
