/* The sum of an update and a residual, normalised as a layer (LayerNorm), and its gradient, each in one pass.
   add_norm.py has the formulas. Updates are bf16, residuals fp32. */

#include <math.h>

#include "compiled.h"

/* Rows that a thread takes at a time; add_norm.py knows their number too. */
enum { ADD_NORM_ROWS = 32 };

/* As in add_norm.py. */
struct add_norm {
    const uint16_t *update;
    const float *residual, *weight, *bias;
    float *sum;            /* update + residual; where nothing keeps it, the output's memory */
    float *output;
    uint16_t *rounded;     /* the output in bf16 */
    float *mean, *inverse; /* of each row, and one over the root of its variance; or null */
    const float *gradient; /* of the output, and of the rounded one; one of them may be null */
    const uint16_t *rounded_gradient;
    float *residual_gradient;
    uint16_t *update_gradient;              /* the same in bf16, or null */
    float *weight_gradient, *bias_gradient; /* a row of zeros for each block of rows, or null */
    int64_t width;
    float epsilon;
};

/* Thirty-two places of a row, or the fewer ones at its end; `at` counts from the tensor's beginning, `column` from the
   row's. */
struct place {
    int64_t at, column, count;
};

/* 0 at the places behind the row's end. */
PART void clear_behind(const struct place *place, struct numbers *numbers) {
    const bits lanes = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    if (place->count < STEP)
        EACH numbers->of[p] =
            (vector)((bits)numbers->of[p] & (bits)(lanes + (uint32_t)(LANES * p) < (uint32_t)place->count));
}

PART void add_sum(const struct add_norm *a, const struct place *place, struct numbers *total) {
    struct numbers update, residual;
    load_ordered(a->update, 1, place->at, place->count, &update);
    load_ordered(a->residual, 0, place->at, place->count, &residual);
    EACH {
        residual.of[p] += update.of[p];
        total->of[p] += residual.of[p];
    }
    store_ordered(a->sum, 0, place->at, place->count, &residual);
}

/* Memory has nothing else to do while a row's variance is summed. */
PART void fetch_next_row(const struct add_norm *a, const struct place *place) {
    __builtin_prefetch(a->update + place->at + a->width);
    EACH __builtin_prefetch(a->residual + place->at + a->width + p * LANES);
}

PART void add_square(const struct add_norm *a, const struct place *place, float mean, struct numbers *total) {
    struct numbers sum;
    fetch_next_row(a, place);
    load_ordered(a->sum, 0, place->at, place->count, &sum);
    EACH sum.of[p] -= mean;
    clear_behind(place, &sum);
    EACH total->of[p] += sum.of[p] * sum.of[p];
}

PART void write_output(const struct add_norm *a, const struct place *place, float mean, float inverse) {
    struct numbers sum, weight, bias;
    load_ordered(a->sum, 0, place->at, place->count, &sum);
    load_ordered(a->weight, 0, place->column, place->count, &weight);
    load_ordered(a->bias, 0, place->column, place->count, &bias);
    EACH sum.of[p] = (sum.of[p] - mean) * inverse * weight.of[p] + bias.of[p];
    store_ordered(a->output, 0, place->at, place->count, &sum);
    store_ordered(a->rounded, 1, place->at, place->count, &sum);
}

PART void load_gradient(const struct add_norm *a, const struct place *place, struct numbers *gradient) {
    struct numbers rounded;
    EACH gradient->of[p] = (vector){0};
    if (a->gradient)
        load_ordered(a->gradient, 0, place->at, place->count, gradient);
    if (a->rounded_gradient) {
        load_ordered(a->rounded_gradient, 1, place->at, place->count, &rounded);
        EACH gradient->of[p] += rounded.of[p];
    }
}

PART void add_to_row(float *row, const struct place *place, const struct numbers *numbers) {
    struct numbers sums;
    load_ordered(row, 0, place->column, place->count, &sums);
    EACH sums.of[p] += numbers->of[p];
    store_ordered(row, 0, place->column, place->count, &sums);
}

/* Sums of the gradient of the normalised row, and of its product with that row. */
struct sums {
    struct numbers gradient, product;
};

/* Leaves the gradient of the normalised row where the residual's will be. */
PART void add_products(const struct add_norm *a, const struct place *place, float mean, float inverse,
                       struct sums *total) {
    struct numbers gradient, normal, weight;
    load_gradient(a, place, &gradient);
    load_ordered(a->sum, 0, place->at, place->count, &normal);
    load_ordered(a->weight, 0, place->column, place->count, &weight);
    EACH normal.of[p] = (normal.of[p] - mean) * inverse;
    if (a->bias_gradient)
        add_to_row(a->bias_gradient, place, &gradient);
    if (a->weight_gradient) {
        struct numbers product;
        EACH product.of[p] = gradient.of[p] * normal.of[p];
        add_to_row(a->weight_gradient, place, &product);
    }
    EACH {
        gradient.of[p] *= weight.of[p];
        total->gradient.of[p] += gradient.of[p];
        total->product.of[p] += gradient.of[p] * normal.of[p];
    }
    store_ordered(a->residual_gradient, 0, place->at, place->count, &gradient);
}

/* Of a row: its mean, one over the root of its variance, and the means of the two sums above. */
struct row {
    float mean, inverse, gradient, product;
};

PART void write_gradient(const struct add_norm *a, const struct place *place, const struct row *row) {
    struct numbers gradient, normal;
    load_ordered(a->residual_gradient, 0, place->at, place->count, &gradient);
    load_ordered(a->sum, 0, place->at, place->count, &normal);
    EACH {
        normal.of[p] = (normal.of[p] - row->mean) * row->inverse;
        gradient.of[p] = (gradient.of[p] - row->gradient - normal.of[p] * row->product) * row->inverse;
    }
    store_ordered(a->residual_gradient, 0, place->at, place->count, &gradient);
    if (a->update_gradient)
        store_ordered(a->update_gradient, 1, place->at, place->count, &gradient);
}

PART void normalise_row(const struct add_norm *a, int64_t row) {
    const int64_t even = a->width / STEP * STEP, start = row * a->width;
    const struct place end = {start + even, even, a->width - even};
    struct numbers total = {{{0}}}, squares = {{{0}}};
    for (int64_t at = 0; at < even; at += STEP)
        add_sum(a, &(struct place){start + at, at, STEP}, &total);
    if (end.count)
        add_sum(a, &end, &total);
    const float mean = sum_lanes(&total) / (float)a->width;
    for (int64_t at = 0; at < even; at += STEP)
        add_square(a, &(struct place){start + at, at, STEP}, mean, &squares);
    if (end.count)
        add_square(a, &end, mean, &squares);
    const float inverse = 1.0f / sqrtf(sum_lanes(&squares) / (float)a->width + a->epsilon);
    for (int64_t at = 0; at < even; at += STEP)
        write_output(a, &(struct place){start + at, at, STEP}, mean, inverse);
    if (end.count)
        write_output(a, &end, mean, inverse);
    if (a->mean) {
        a->mean[row] = mean;
        a->inverse[row] = inverse;
    }
}

PART void differentiate_row(const struct add_norm *a, int64_t number) {
    const int64_t even = a->width / STEP * STEP, start = number * a->width;
    const struct place end = {start + even, even, a->width - even};
    struct row row = {a->mean[number], a->inverse[number], 0, 0};
    struct sums total = {{{{0}}}, {{{0}}}};
    for (int64_t at = 0; at < even; at += STEP)
        add_products(a, &(struct place){start + at, at, STEP}, row.mean, row.inverse, &total);
    if (end.count)
        add_products(a, &end, row.mean, row.inverse, &total);
    row.gradient = sum_lanes(&total.gradient) / (float)a->width;
    row.product = sum_lanes(&total.product) / (float)a->width;
    for (int64_t at = 0; at < even; at += STEP)
        write_gradient(a, &(struct place){start + at, at, STEP}, &row);
    if (end.count)
        write_gradient(a, &end, &row);
}

FOR_EACH_TARGET
static void normalise_sums(const void *job, int64_t first, int64_t last, int64_t block) {
    const struct add_norm a = *(const struct add_norm *)job;
    (void)block;
    for (int64_t row = first; row < last; row++)
        normalise_row(&a, row);
}

FOR_EACH_TARGET
static void differentiate_sums(const void *job, int64_t first, int64_t last, int64_t block) {
    struct add_norm a = *(const struct add_norm *)job;
    if (a.weight_gradient)
        a.weight_gradient += block * a.width;
    if (a.bias_gradient)
        a.bias_gradient += block * a.width;
    for (int64_t row = first; row < last; row++)
        differentiate_row(&a, row);
}

/* Into the first block's row, in the order of the blocks. */
static void add_blocks(float *sums, int64_t rows, int64_t width) {
    for (int64_t block = 1; sums && block * ADD_NORM_ROWS < rows; block++)
        for (int64_t at = 0; at < width; at++)
            sums[at] += sums[block * width + at];
}

void afina_add_and_normalise(const struct add_norm *a, int64_t rows, int threads) {
    afina_share_rows(normalise_sums, a, rows, ADD_NORM_ROWS, threads);
}

void afina_differentiate_add_norm(const struct add_norm *a, int64_t rows, int threads) {
    afina_share_rows(differentiate_sums, a, rows, ADD_NORM_ROWS, threads);
    add_blocks(a->weight_gradient, rows, a->width);
    add_blocks(a->bias_gradient, rows, a->width);
}
