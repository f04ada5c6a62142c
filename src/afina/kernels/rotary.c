/* Rotary positions: the halves of each head turned by angles. rotary.py has the formulas. */

#include "compiled.h"

/* Places of a row that a thread takes at a time. */
enum { ROTARY_BLOCK = 16 };

/* As in rotary.py; steps are counted in numbers, those of width are 1. */
struct rotary {
    const void *input, *cosines, *sines;
    void *output;
    int64_t places, heads, half;
    int64_t input_row, input_head, input_place;
    int64_t output_row, output_head, output_place;
    int64_t angle_row, angle_place;
    int32_t is_bf16, rounds, is_backward;
};

PART void take(const struct rotary *r, const void *from, int64_t at, int64_t count, struct numbers *to) {
    load(from, r->is_bf16, r->is_bf16, at, count, 0, to);
}

/* one a + sign other b, both products rounded first where torch's operations do. */
PART void combine(const struct rotary *r, const struct numbers *one, const struct numbers *a,
                  const struct numbers *other, const struct numbers *b, float sign, struct numbers *to) {
    struct numbers first, second;
    EACH first.of[p] = one->of[p] * a->of[p];
    EACH second.of[p] = other->of[p] * b->of[p];
    if (r->is_bf16 && r->rounds) {
        round_to_bf16(&first);
        round_to_bf16(&second);
    }
    EACH to->of[p] = first.of[p] + sign * second.of[p];
}

/* Places of the first of a few numbers in each half of a head. */
struct pair {
    int64_t input, output, angle;
};

PART void turn(const struct rotary *r, const struct pair *at, int64_t count) {
    struct numbers low, high, low_cos, high_cos, low_sin, high_sin, low_out, high_out;
    take(r, r->input, at->input, count, &low);
    take(r, r->input, at->input + r->half, count, &high);
    take(r, r->cosines, at->angle, count, &low_cos);
    take(r, r->cosines, at->angle + r->half, count, &high_cos);
    take(r, r->sines, at->angle, count, &low_sin);
    take(r, r->sines, at->angle + r->half, count, &high_sin);
    if (r->is_backward) {
        combine(r, &low, &low_cos, &high, &high_sin, 1.0f, &low_out);
        combine(r, &high, &high_cos, &low, &low_sin, -1.0f, &high_out);
    } else {
        combine(r, &low, &low_cos, &high, &low_sin, -1.0f, &low_out);
        combine(r, &high, &high_cos, &low, &high_sin, 1.0f, &high_out);
    }
    store(r->output, r->is_bf16, r->is_bf16, at->output, count, &low_out);
    store(r->output, r->is_bf16, r->is_bf16, at->output + r->half, count, &high_out);
}

PART void turn_head(const struct rotary *r, struct pair at) {
    int64_t done = 0;
    for (; done + STEP <= r->half; done += STEP) {
        turn(r, &at, STEP);
        at.input += STEP, at.output += STEP, at.angle += STEP;
    }
    if (done < r->half)
        turn(r, &at, r->half - done);
}

PART void turn_places(const struct rotary *r, int64_t first, int64_t last) {
    for (int64_t each = first; each < last; each++) {
        const int64_t row = each / r->places, place = each % r->places;
        for (int64_t head = 0; head < r->heads; head++) {
            const struct pair at = {row * r->input_row + head * r->input_head + place * r->input_place,
                                    row * r->output_row + head * r->output_head + place * r->output_place,
                                    row * r->angle_row + place * r->angle_place};
            turn_head(r, at);
        }
    }
}

FOR_EACH_TARGET
static void turn_block(const void *job, int64_t first, int64_t last, int64_t block) {
    struct rotary r = *(const struct rotary *)job;
    (void)block;
    if (r.is_bf16) {
        r.is_bf16 = 1; /* a constant, for loops without branches */
        turn_places(&r, first, last);
    } else {
        r.is_bf16 = 0;
        turn_places(&r, first, last);
    }
}

void afina_turn(const struct rotary *r, int64_t rows, int threads) {
    afina_share_rows(turn_block, r, rows * r->places, ROTARY_BLOCK, threads);
}
