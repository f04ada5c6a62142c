/* Work that threads share, which sources the library was made of, and for which processors. */

#include "compiled.h"

/* libgomp's, which torch has loaded and whose threads are awake. Where there is none one thread does it all. */
extern void GOMP_parallel(void (*)(void *), void *, unsigned, unsigned) __attribute__((weak));

struct share {
    take_rows take;
    const void *job;
    int64_t rows, block_rows, blocks, next;
};

void afina_run_threads(void (*work)(void *), void *argument, int threads) {
    if (GOMP_parallel && threads > 1)
        GOMP_parallel(work, argument, (unsigned)threads, 0);
    else
        work(argument);
}

/* What each thread does: the next block of rows that no other one has taken, until none is left. */
static void take_blocks(void *argument) {
    struct share *share = argument;
    int64_t block;
    while ((block = __atomic_fetch_add(&share->next, 1, __ATOMIC_RELAXED)) < share->blocks) {
        int64_t first = block * share->block_rows, last = first + share->block_rows;
        share->take(share->job, first, last < share->rows ? last : share->rows, block);
    }
}

/* Blocks are of so many rows whatever the number of threads: what is summed over a block doesn't depend on it. */
void afina_share_rows(take_rows take, const void *job, int64_t rows, int64_t block_rows, int threads) {
    struct share share = {take, job, rows, block_rows, (rows + block_rows - 1) / block_rows, 0};
    afina_run_threads(take_blocks, &share, share.blocks > 1 ? threads : 1);
}

/* The hash of the sources as they were when they were compiled: a library of others has other structures. */
const char *afina_source_hash(void) { return SOURCE_HASH; }

/* The processors it was compiled for: 0 any, but none with AVX512 as such, 1 those with AVX512 alone, 2 several kinds. */
int afina_targets(void) {
#if defined(__x86_64__) && !defined(ONE_TARGET)
    return 2;
#elif defined(__AVX512BW__) && defined(__AVX512VL__)
    return 1;
#else
    return 0;
#endif
}
