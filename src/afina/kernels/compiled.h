/* What the compiled kernels share: vectors, numbers in bf16, and rows that threads share.

   Each operation is rounded by itself (-ffp-contract=off) and sums have one order, so that a number depends neither on
   the processor's generation nor on the number of threads. Helpers take vectors by address: what is passed by value
   would depend on the target. */

#ifndef COMPILED_H
#define COMPILED_H

#include <stdint.h>
#include <string.h>

/* The same code for several generations of processors; the loader takes the newest that this one knows. Clang gives what
   chooses among them to the linker, so that these functions have names of their own in all files. */
#if defined(__x86_64__) && !defined(ONE_TARGET)
#define FOR_EACH_TARGET __attribute__((target_clones("default", "avx2", "arch=x86-64-v4")))
#else
#define FOR_EACH_TARGET
#endif
/* A part of the function that it stands in, and compiled for its target. */
#define PART static inline __attribute__((always_inline))

/* Numbers of a vector, and those that loops take at a time. */
enum { LANES = 16, STEP = 32 };

typedef float vector __attribute__((vector_size(64)));
typedef uint32_t bits __attribute__((vector_size(64)));

/* Thirty-two numbers of a row. Those of bf16 rows are held as even and odd places, since a shift or a mask then is all
   that it takes to read them; beside such a row fp32 ones are held in the same way. */
struct numbers {
    vector of[2];
};
#define EACH for (int p = 0; p < 2; p++)

#ifdef __clang__
#define SHUFFLE(one, other, ...) __builtin_shufflevector(one, other, __VA_ARGS__)
#else
#define SHUFFLE(one, other, ...) __builtin_shuffle(one, other, (bits){__VA_ARGS__})
#endif

/* Takes the rows from `first` up to `last`; `block` counts the calls. */
typedef void (*take_rows)(const void *job, int64_t first, int64_t last, int64_t block);
void afina_share_rows(take_rows take, const void *job, int64_t rows, int64_t block_rows, int threads);
/* The same work in each thread. */
void afina_run_threads(void (*work)(void *), void *argument, int threads);

PART void copy_piece(const char **from, char **to, int64_t bytes, int64_t piece) {
    if (bytes & piece) {
        memcpy(*to, *from, (size_t)piece);
        *from += piece;
        *to += piece;
    }
}

/* At most `room` bytes, a power of two up to 128, in pieces of constant lengths: a memcpy of any length is a call, and
   costs 50 ns. */
PART void copy_some(const void *from, int64_t bytes, int64_t room, void *to) {
    const char *read = from;
    char *written = to;
    if (room >= 128)
        copy_piece(&read, &written, bytes, 128);
    if (room >= 64)
        copy_piece(&read, &written, bytes, 64);
    if (room >= 32)
        copy_piece(&read, &written, bytes, 32);
    if (room >= 16)
        copy_piece(&read, &written, bytes, 16);
    copy_piece(&read, &written, bytes, 8);
    copy_piece(&read, &written, bytes, 4);
    copy_piece(&read, &written, bytes, 2);
    copy_piece(&read, &written, bytes, 1);
}

/* `count` numbers from the place `at` on, and `fill` behind them; that is 0 or minus infinity. A count of 32 should be a
   constant. `is_apart` is whether even and odd places are held apart, as they always are of bf16. */
PART void load(const void *from, int32_t is_bf16, int32_t is_apart, int64_t at, int64_t count, float fill,
               struct numbers *to) {
    if (is_bf16) {
        bits raw = (bits){0} + (fill == 0 ? 0 : 0xff80ff80);
        copy_some((const uint16_t *)from + at, count * (int64_t)sizeof(uint16_t), sizeof raw, &raw);
        to->of[0] = (vector)(raw << 16);
        to->of[1] = (vector)(raw & 0xffff0000);
        return;
    }
    struct numbers raw;
    EACH raw.of[p] = (vector){0} + fill;
    copy_some((const float *)from + at, count * (int64_t)sizeof(float), sizeof raw, &raw);
    *to = raw;
    if (is_apart) {
        to->of[0] = SHUFFLE(raw.of[0], raw.of[1], 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
        to->of[1] = SHUFFLE(raw.of[0], raw.of[1], 1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31);
    }
}

/* The nearest bf16 number, of two as near the even one, in the upper half of each lane. */
PART void round_bits(const vector *numbers, bits *to) {
    bits raw = (bits)*numbers;
    bits rounded = raw + 0x7fff + ((raw >> 16) & 1);
    bits is_nan = (bits)((raw & 0x7fffffff) > 0x7f800000);
    *to = (rounded & ~is_nan) | (0x7fc00000 & is_nan);
}

/* As if stored in bf16 and read again. */
PART void round_to_bf16(struct numbers *numbers) {
    EACH {
        bits rounded;
        round_bits(&numbers->of[p], &rounded);
        numbers->of[p] = (vector)(rounded & 0xffff0000);
    }
}

PART void store(void *to, int32_t is_bf16, int32_t is_apart, int64_t at, int64_t count, const struct numbers *numbers) {
    if (is_bf16) {
        bits even, odd;
        round_bits(&numbers->of[0], &even);
        round_bits(&numbers->of[1], &odd);
        bits raw = (even >> 16) | (odd & 0xffff0000);
        copy_some(&raw, count * (int64_t)sizeof(uint16_t), sizeof raw, (uint16_t *)to + at);
        return;
    }
    struct numbers raw = *numbers;
    if (is_apart) {
        const vector *even = &numbers->of[0], *odd = &numbers->of[1];
        raw.of[0] = SHUFFLE(*even, *odd, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
        raw.of[1] = SHUFFLE(*even, *odd, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
    }
    copy_some(&raw, count * (int64_t)sizeof(float), sizeof raw, (float *)to + at);
}

/* Lane for lane, where the mask is all ones; else the other. */
PART void choose(const bits *mask, const vector *where, const vector *otherwise, vector *to) {
    *to = (vector)(((bits)*where & *mask) | ((bits)*otherwise & ~*mask));
}

PART float sum_lanes(const struct numbers *numbers) {
    vector sum = numbers->of[0] + numbers->of[1];
    sum += SHUFFLE(sum, sum, 8, 9, 10, 11, 12, 13, 14, 15, 0, 1, 2, 3, 4, 5, 6, 7);
    sum += SHUFFLE(sum, sum, 4, 5, 6, 7, 0, 1, 2, 3, 12, 13, 14, 15, 8, 9, 10, 11);
    sum += SHUFFLE(sum, sum, 2, 3, 0, 1, 6, 7, 4, 5, 10, 11, 8, 9, 14, 15, 12, 13);
    return sum[0] + sum[1];
}

PART void keep_larger(const vector *numbers, vector *largest) {
    const bits is_larger = (bits)(*numbers > *largest);
    choose(&is_larger, numbers, largest, largest);
}

PART void keep_largest(const struct numbers *numbers, struct numbers *largest) {
    EACH keep_larger(&numbers->of[p], &largest->of[p]);
}

PART float find_largest_lane(const struct numbers *numbers) {
    vector largest = numbers->of[0], other = numbers->of[1];
    keep_larger(&other, &largest);
    other = SHUFFLE(largest, largest, 8, 9, 10, 11, 12, 13, 14, 15, 0, 1, 2, 3, 4, 5, 6, 7);
    keep_larger(&other, &largest);
    other = SHUFFLE(largest, largest, 4, 5, 6, 7, 0, 1, 2, 3, 12, 13, 14, 15, 8, 9, 10, 11);
    keep_larger(&other, &largest);
    other = SHUFFLE(largest, largest, 2, 3, 0, 1, 6, 7, 4, 5, 10, 11, 8, 9, 14, 15, 12, 13);
    keep_larger(&other, &largest);
    return largest[1] > largest[0] ? largest[1] : largest[0];
}

/* e^x of numbers up to 88, as 2^n times 2^f with f from -1/2 to 1/2: a polynomial of degree 5, off by 2e-7 at most, and
   what rounding x / ln 2 adds, 1e-7 |x|. 0 where that is below the smallest normal number; what is no number stays
   none. */
PART void exponentiate(struct numbers *numbers) {
    EACH {
        const bits is_kept = ~(bits)(numbers->of[p] < -87.33654f);
        const vector power = numbers->of[p] * 1.44269504f;
        /* The added number leaves n in the lowest bits. */
        const vector shifted = power + 12582912.0f;
        const vector rest = power - (shifted - 12582912.0f);
        vector sum = rest * 1.326472708e-3f + 9.671512862e-3f;
        sum = sum * rest + 5.550733746e-2f;
        sum = sum * rest + 2.402224208e-1f;
        sum = sum * rest + 6.931469776e-1f;
        sum = sum * rest + 1.0f;
        numbers->of[p] = (vector)(((bits)sum + ((bits)shifted << 23)) & is_kept);
    }
}

/* Numbers in their order, of bf16 ones too, with zeros behind the last of them. A vector at a time: a compiler sends
   what is copied as a pair through memory. */
PART void load_ordered(const void *from, int32_t is_bf16, int64_t at, int64_t count, struct numbers *to) {
    const char *first = (const char *)from + at * (is_bf16 ? 2 : 4);
    char few[STEP * sizeof(float)] = {0};
    if (count < STEP) {
        copy_some(first, count * (is_bf16 ? 2 : 4), sizeof few / 2, few);
        first = few;
    }
    if (is_bf16) {
        bits raw;
        memcpy(&raw, first, sizeof raw);
        const vector even = (vector)(raw << 16), odd = (vector)(raw & 0xffff0000);
        to->of[0] = SHUFFLE(even, odd, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
        to->of[1] = SHUFFLE(even, odd, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
        return;
    }
    EACH memcpy(&to->of[p], first + p * sizeof(vector), sizeof(vector));
}

PART void store_ordered(void *to, int32_t is_bf16, int64_t at, int64_t count, const struct numbers *numbers) {
    char *first = (char *)to + at * (is_bf16 ? 2 : 4), few[STEP * sizeof(float)];
    char *next = count < STEP ? few : first;
    if (is_bf16) {
        const vector *one = &numbers->of[0], *other = &numbers->of[1];
        const struct numbers apart = {
            {SHUFFLE(*one, *other, 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30),
             SHUFFLE(*one, *other, 1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31)}};
        store(next, 1, 1, 0, STEP, &apart);
    } else {
        EACH memcpy(next + p * sizeof(vector), &numbers->of[p], sizeof(vector));
    }
    if (count < STEP)
        copy_some(few, count * (is_bf16 ? 2 : 4), sizeof few / 2, first);
}

#endif
