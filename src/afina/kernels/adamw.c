/* AdamW's step of many tensors in one pass over their numbers, and the squares of their gradients in another.

   What a number becomes depends on nothing but itself, and each operation is rounded by itself (-ffp-contract=off): any
   processor and any number of threads give the bits of the plain form in adamw.py. Squares are summed in blocks of one
   size, these in the order of the tensors.

   hatch_build.py compiles it when the package is installed, adamw.py calls it. */

#include <math.h>

#include "compiled.h"

/* Numbers that a thread takes at a time (adamw.py knows them too), and those of them that are in its cache at a time. */
enum { BLOCK = 16384, PIECE = 2048 };

/* As in adamw.py. A gradient has one of two forms; the pointer to the other is null. */
struct tensor {
    float *weight, *mean, *square;
    const float *gradient;
    const uint16_t *bf16_gradient;
    uint16_t *bf16_weight; /* where the new weight is written as well, or null */
    int64_t length, first_block;
    float decay;     /* 1 - rate * weight_decay */
    float step_size; /* rate / (1 - beta1^t) */
    float rescale;   /* 1 / sqrt(1 - beta2^t) */
};

struct work {
    const struct tensor *tensors;
    int64_t count, blocks, next;
    float factor; /* what gradients are multiplied by */
    float rest1, beta2, rest2, epsilon; /* 1 - beta1, 1 - beta2 */
    double *squares; /* where the sum of each block goes; null for a step */
};

static inline float widen(uint16_t bf16) {
    uint32_t bits = (uint32_t)bf16 << 16;
    float number;
    memcpy(&number, &bits, sizeof number);
    return number;
}

/* The nearest bf16 number, of two as near the even one. */
static inline uint16_t narrow(float number) {
    uint32_t bits;
    memcpy(&bits, &number, sizeof bits);
    uint16_t nearest = (uint16_t)((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
    return (bits & 0x7fffffff) > 0x7f800000 ? 0x7fc0 : nearest;
}

FOR_EACH_TARGET
static void widen_piece(const uint16_t *restrict bf16, float *restrict numbers, int64_t length) {
    for (int64_t i = 0; i < length; i++)
        numbers[i] = widen(bf16[i]);
}

FOR_EACH_TARGET
static void narrow_piece(const float *restrict numbers, uint16_t *restrict bf16, int64_t length) {
    for (int64_t i = 0; i < length; i++)
        bf16[i] = narrow(numbers[i]);
}

FOR_EACH_TARGET
static void step_piece(float *restrict weight, float *restrict mean, float *restrict square,
                       const float *restrict gradient, int64_t length, const struct tensor *t, const struct work *w) {
    const float factor = w->factor, rest1 = w->rest1, beta2 = w->beta2, rest2 = w->rest2, epsilon = w->epsilon;
    const float decay = t->decay, step_size = t->step_size, rescale = t->rescale;
    for (int64_t i = 0; i < length; i++) {
        float g = gradient[i] * factor;
        float m = mean[i] + rest1 * (g - mean[i]);
        float v = beta2 * square[i] + rest2 * g * g;
        mean[i] = m;
        square[i] = v;
        weight[i] = decay * weight[i] - step_size * m / (rescale * sqrtf(v) + epsilon);
    }
}

FOR_EACH_TARGET
static double sum_squares(const float *restrict numbers, int64_t length) {
    double lanes[LANES] = {0}, sum = 0;
    int64_t i = 0;
    for (; i + LANES <= length; i += LANES)
        for (int lane = 0; lane < LANES; lane++)
            lanes[lane] += (double)numbers[i + lane] * numbers[i + lane];
    for (; i < length; i++)
        sum += (double)numbers[i] * numbers[i];
    for (int lane = 0; lane < LANES; lane++)
        sum += lanes[lane];
    return sum;
}

/* The last tensor that begins no later: of those that begin with the same block all but the last are empty. */
static const struct tensor *find_tensor(const struct work *w, int64_t block) {
    int64_t low = 0, high = w->count;
    while (high - low > 1) {
        int64_t middle = (low + high) / 2;
        if (w->tensors[middle].first_block <= block)
            low = middle;
        else
            high = middle;
    }
    return &w->tensors[low];
}

/* The step of so many numbers of a tensor, or the sum of their squares. */
static double take_piece(const struct work *w, const struct tensor *t, int64_t at, int64_t length) {
    float widened[PIECE];
    const float *gradient = widened;
    if (t->gradient)
        gradient = t->gradient + at;
    else
        widen_piece(t->bf16_gradient + at, widened, length);
    if (w->squares)
        return sum_squares(gradient, length);
    step_piece(t->weight + at, t->mean + at, t->square + at, gradient, length, t, w);
    if (t->bf16_weight)
        narrow_piece(t->weight + at, t->bf16_weight + at, length);
    return 0;
}

/* What each thread does: the next block that no other one has taken, until none is left. */
static void take_blocks(void *argument) {
    struct work *w = argument;
    int64_t block;
    while ((block = __atomic_fetch_add(&w->next, 1, __ATOMIC_RELAXED)) < w->blocks) {
        const struct tensor *t = find_tensor(w, block);
        int64_t start = (block - t->first_block) * BLOCK;
        int64_t end = t->length - start < BLOCK ? t->length : start + BLOCK;
        double sum = 0;
        for (int64_t at = start; at < end; at += PIECE)
            sum += take_piece(w, t, at, end - at < PIECE ? end - at : PIECE);
        if (w->squares)
            w->squares[block] = sum;
    }
}

void afina_take_blocks(struct work *work, int threads) {
    afina_run_threads(take_blocks, work, threads);
}
