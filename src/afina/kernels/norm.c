/* Normalisation of rows by their root mean square, and its gradient, each in one pass. norm.py has the formulas. */

#include <math.h>

#include "compiled.h"

/* Rows that a thread takes at a time; norm.py knows their number too. */
enum { NORM_ROWS = 32 };

/* As in norm.py. */
struct norm {
    const void *input, *weight;
    void *output;
    float *inverse;         /* one over the root mean square of each row */
    const void *gradient;   /* of the output; the forward pass has none */
    void *input_gradient;
    float *weight_gradient; /* a row of zeros for each block of rows, or null */
    int64_t width;
    float epsilon;
    int32_t is_input_bf16, is_weight_bf16, is_output_bf16;
    int32_t adds_one; /* to the weight; then nothing is rounded before the end */
};

/* Thirty-two places of a row, or the fewer ones at its end. */
struct place {
    int64_t row, at, count;
};

PART const void *find_row(const void *numbers, int32_t is_bf16, int64_t row, int64_t width) {
    return (const char *)numbers + row * width * (is_bf16 ? 2 : 4);
}

PART int32_t is_apart(const struct norm *n) { return n->is_input_bf16 || n->is_weight_bf16 || n->is_output_bf16; }

PART int32_t rounds_between(const struct norm *n) { return n->is_input_bf16 && !n->adds_one; }

PART void load_of_row(const struct norm *n, const void *from, int32_t is_bf16, const struct place *p,
                      struct numbers *to) {
    load(find_row(from, is_bf16, p->row, n->width), is_bf16, is_apart(n), p->at, p->count, 0, to);
}

PART void store_in_row(const struct norm *n, void *to, int32_t is_bf16, const struct place *p,
                       const struct numbers *from) {
    store((void *)find_row(to, is_bf16, p->row, n->width), is_bf16, is_apart(n), p->at, p->count, from);
}

PART void load_weight(const struct norm *n, const struct place *place, struct numbers *weight) {
    load(n->weight, n->is_weight_bf16, is_apart(n), place->at, place->count, 0, weight);
    if (n->adds_one)
        EACH weight->of[p] += 1.0f;
}

/* x, and x / rms(x) rounded where the layers of transformers round it. */
PART void load_normal(const struct norm *n, const struct place *place, struct numbers *x, struct numbers *normal) {
    const float inverse = n->inverse[place->row];
    load_of_row(n, n->input, n->is_input_bf16, place, x);
    EACH normal->of[p] = x->of[p] * inverse;
    if (rounds_between(n))
        round_to_bf16(normal);
}

/* The output's gradient, and the one of x / rms(x). */
PART void load_gradient(const struct norm *n, const struct place *place, struct numbers *gradient,
                        struct numbers *normal_gradient) {
    struct numbers weight;
    load_of_row(n, n->gradient, n->is_output_bf16, place, gradient);
    load_weight(n, place, &weight);
    EACH normal_gradient->of[p] = gradient->of[p] * weight.of[p];
    if (rounds_between(n))
        round_to_bf16(normal_gradient);
}

PART void add_square(const struct norm *n, const struct place *place, struct numbers *sum) {
    struct numbers x;
    load_of_row(n, n->input, n->is_input_bf16, place, &x);
    EACH sum->of[p] += x.of[p] * x.of[p];
}

PART void write_output(const struct norm *n, const struct place *place) {
    struct numbers x, normal, weight;
    load_normal(n, place, &x, &normal);
    load_weight(n, place, &weight);
    EACH normal.of[p] *= weight.of[p];
    store_in_row(n, n->output, n->is_output_bf16, place, &normal);
}

PART void add_product(const struct norm *n, const struct place *place, float *weight_sums, struct numbers *sum) {
    struct numbers x, normal, gradient, normal_gradient;
    load_normal(n, place, &x, &normal);
    load_gradient(n, place, &gradient, &normal_gradient);
    EACH sum->of[p] += x.of[p] * normal_gradient.of[p];
    if (weight_sums) {
        struct numbers sums;
        load(weight_sums, 0, is_apart(n), place->at, place->count, 0, &sums);
        EACH sums.of[p] += gradient.of[p] * normal.of[p];
        store(weight_sums, 0, is_apart(n), place->at, place->count, &sums);
    }
}

PART void write_gradient(const struct norm *n, const struct place *place, float shrink) {
    const float inverse = n->inverse[place->row];
    struct numbers x, gradient, normal_gradient;
    load_of_row(n, n->input, n->is_input_bf16, place, &x);
    load_gradient(n, place, &gradient, &normal_gradient);
    EACH x.of[p] = normal_gradient.of[p] * inverse - x.of[p] * shrink;
    store_in_row(n, n->input_gradient, n->is_input_bf16, place, &x);
}

PART void normalise_rows(const struct norm *n, int64_t first, int64_t last) {
    const int64_t even = n->width / STEP * STEP;
    for (int64_t row = first; row < last; row++) {
        struct numbers sum = {{{0}}};
        const struct place end = {row, even, n->width - even};
        for (int64_t at = 0; at < even; at += STEP)
            add_square(n, &(struct place){row, at, STEP}, &sum);
        if (end.count)
            add_square(n, &end, &sum);
        n->inverse[row] = 1.0f / sqrtf(sum_lanes(&sum) / (float)n->width + n->epsilon);
        for (int64_t at = 0; at < even; at += STEP)
            write_output(n, &(struct place){row, at, STEP});
        if (end.count)
            write_output(n, &end);
    }
}

PART void differentiate_rows(const struct norm *n, int64_t first, int64_t last, float *weight_sums) {
    const int64_t even = n->width / STEP * STEP;
    for (int64_t row = first; row < last; row++) {
        struct numbers sum = {{{0}}};
        const struct place end = {row, even, n->width - even};
        for (int64_t at = 0; at < even; at += STEP)
            add_product(n, &(struct place){row, at, STEP}, weight_sums, &sum);
        if (end.count)
            add_product(n, &end, weight_sums, &sum);
        const float inverse = n->inverse[row];
        const float shrink = sum_lanes(&sum) * inverse * inverse * inverse / (float)n->width;
        for (int64_t at = 0; at < even; at += STEP)
            write_gradient(n, &(struct place){row, at, STEP}, shrink);
        if (end.count)
            write_gradient(n, &end, shrink);
    }
}

/* Formats that are known while compiling make loops without branches: those of LoRA's frozen bf16 models. */
PART void fix_formats(struct norm *n) {
    n->is_input_bf16 = n->is_weight_bf16 = n->is_output_bf16 = 1;
    n->adds_one = 0;
}

PART int is_all_bf16(const struct norm *n) {
    return n->is_input_bf16 && n->is_weight_bf16 && n->is_output_bf16 && !n->adds_one;
}

FOR_EACH_TARGET
static void normalise_share(const void *job, int64_t first, int64_t last, int64_t block) {
    struct norm n = *(const struct norm *)job;
    (void)block;
    if (is_all_bf16(&n)) {
        fix_formats(&n);
        normalise_rows(&n, first, last);
    } else {
        normalise_rows(&n, first, last);
    }
}

FOR_EACH_TARGET
static void differentiate_share(const void *job, int64_t first, int64_t last, int64_t block) {
    struct norm n = *(const struct norm *)job;
    float *weight_sums = n.weight_gradient ? n.weight_gradient + block * n.width : NULL;
    if (is_all_bf16(&n) && !weight_sums) {
        fix_formats(&n);
        differentiate_rows(&n, first, last, NULL);
    } else {
        differentiate_rows(&n, first, last, weight_sums);
    }
}

void afina_normalise(const struct norm *n, int64_t rows, int threads) {
    afina_share_rows(normalise_share, n, rows, NORM_ROWS, threads);
}

void afina_differentiate_norm(const struct norm *n, int64_t rows, int threads) {
    afina_share_rows(differentiate_share, n, rows, NORM_ROWS, threads);
    for (int64_t block = 1; n->weight_gradient && block * NORM_ROWS < rows; block++)
        for (int64_t at = 0; at < n->width; at++)
            n->weight_gradient[at] += n->weight_gradient[block * n->width + at];
}
