/* What kernels of attention are told, and what they share. */

#ifndef ATTENTION_H
#define ATTENTION_H

#include "compiled.h"

/* As in short_attention.py: the first number, and the steps from one to the next. */
struct rows {
    void *numbers;
    int64_t batch, head, place;
};

/* Likewise. */
struct attention {
    struct rows query, key, value, mask; /* the mask's are bytes, 1 where a query may look; null for everywhere */
    struct rows out;
    struct rows gradient; /* of the output; the forward pass has none */
    struct rows query_gradient, key_gradient, value_gradient;
    float *logs; /* of each query's sum over e^score, (B, H, T); the short kernel computes it again, null is not kept */
    int64_t heads, groups; /* of keys, and heads of queries for each of them */
    int64_t queries, keys, width;
    float scaling;
    int32_t is_causal; /* then query number t looks at the keys up to t */
};

PART int64_t round_up(int64_t count, int64_t whole) { return (count + whole - 1) / whole * whole; }

PART int64_t keep_below(int64_t count, int64_t limit) { return count < limit ? count : limit; }

PART uint16_t *find_head(const struct rows *rows, int64_t batch, int64_t head) {
    return (uint16_t *)rows->numbers + batch * rows->batch + head * rows->head;
}

#endif
