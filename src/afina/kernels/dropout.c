/* Dropout by numbers that depend on a key and a place alone. dropout.py has the formulas. */

#include "compiled.h"

/* Numbers that a thread takes at a time. */
enum { DROPOUT_BLOCK = 8192 };

/* As in dropout.py. Both tensors have one format and one length. */
struct dropout {
    const void *input;
    void *output;
    uint32_t first_key, second_key;
    uint32_t least; /* a place is kept where its number of 16 bits is this or more */
    float scale;
    int32_t is_bf16, adds; /* whether the output holds something already, to which this is added */
};

/* The last step of MurmurHash3 for 32 bits: each bit of what goes in changes half of those that come out. */
PART void mix(bits *numbers) {
    *numbers ^= *numbers >> 16;
    *numbers *= 0x85ebca6bu;
    *numbers ^= *numbers >> 13;
    *numbers *= 0xc2b2ae35u;
    *numbers ^= *numbers >> 16;
}

/* Two numbers of 16 bits in each lane, for the 32 places from `at` on: the lower halves are those of the first 16. */
PART void draw(const struct dropout *d, int64_t at, bits *to) {
    const bits lanes = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    const uint64_t pair = (uint64_t)at / 2;
    *to = (lanes + (uint32_t)pair) ^ d->first_key;
    mix(to);
    *to += d->second_key + (uint32_t)(pair >> 32) * 0x9e3779b9u;
    mix(to);
}

PART void drop(const struct dropout *d, int64_t at, int64_t count) {
    const vector nothing = {0};
    struct numbers numbers, sum;
    bits drawn;
    load_ordered(d->input, d->is_bf16, at, count, &numbers);
    draw(d, at, &drawn);
    const bits is_kept[2] = {(bits)((drawn & 0xffff) >= d->least), (bits)((drawn >> 16) >= d->least)};
    EACH {
        numbers.of[p] *= d->scale;
        choose(&is_kept[p], &numbers.of[p], &nothing, &numbers.of[p]);
    }
    if (d->adds) {
        load_ordered(d->output, d->is_bf16, at, count, &sum);
        EACH numbers.of[p] += sum.of[p];
    }
    store_ordered(d->output, d->is_bf16, at, count, &numbers);
}

PART void drop_all(const struct dropout *d, int64_t first, int64_t last) {
    int64_t at = first;
    for (; at + STEP <= last; at += STEP)
        drop(d, at, STEP);
    if (at < last)
        drop(d, at, last - at);
}

FOR_EACH_TARGET
static void drop_block(const void *job, int64_t first, int64_t last, int64_t block) {
    struct dropout d = *(const struct dropout *)job;
    (void)block;
    if (d.is_bf16) {
        d.is_bf16 = 1;
        drop_all(&d, first, last);
    } else {
        d.is_bf16 = 0;
        drop_all(&d, first, last);
    }
}

void afina_drop(const struct dropout *d, int64_t length, int threads) {
    afina_share_rows(drop_block, d, length, DROPOUT_BLOCK, threads);
}
