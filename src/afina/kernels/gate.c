/* An activation of one tensor times another, and its gradients, each in one pass. gate.py has the formulas. */

#include "compiled.h"

/* Numbers that a thread takes at a time. */
enum { GATE_BLOCK = 8192 };
/* Activations, as in gate.py. */
enum { SILU = 0, GELU_TANH = 1 };

/* As in gate.py. All tensors have one format and one length. */
struct gate {
    const void *gate, *up;
    void *output;
    const void *gradient; /* of the output; the forward pass has none */
    void *gate_gradient, *up_gradient;
    int32_t is_bf16, kind;
};

PART void take(const void *from, const struct gate *g, int64_t at, int64_t count, struct numbers *to) {
    load(from, g->is_bf16, g->is_bf16, at, count, 0, to);
}

/* 1 / (1 + e^-x); e^88 is as good as infinite. */
PART void take_sigmoid(const struct numbers *x, struct numbers *to) {
    const vector most = (vector){0} + 88.0f;
    EACH {
        const vector power = -x->of[p];
        const bits is_large = (bits)(power > most);
        choose(&is_large, &most, &power, &to->of[p]);
    }
    exponentiate(to);
    EACH to->of[p] = 1.0f / (1.0f + to->of[p]);
}

/* Both activations are x sigmoid(u), with u = x or u = 2 sqrt(2 / pi) (x + 0.044715 x^3): 1 + tanh(u / 2) is
   2 sigmoid(u). `slope` is the derivative. */
PART void activate(const struct gate *g, const struct numbers *x, struct numbers *value, struct numbers *slope) {
    struct numbers sigmoid, inner = *x, inner_slope;
    EACH {
        inner_slope.of[p] = (vector){0} + 1.0f;
        if (g->kind == GELU_TANH) {
            const vector square = x->of[p] * x->of[p];
            inner.of[p] = 1.5957691216f * (x->of[p] + 0.044715f * (square * x->of[p]));
            inner_slope.of[p] = 1.5957691216f * (1.0f + 0.134145f * square);
        }
    }
    take_sigmoid(&inner, &sigmoid);
    EACH {
        value->of[p] = x->of[p] * sigmoid.of[p];
        slope->of[p] = sigmoid.of[p] * (1.0f + x->of[p] * inner_slope.of[p] * (1.0f - sigmoid.of[p]));
    }
    if (g->is_bf16)
        round_to_bf16(value);
}

PART void multiply(const struct gate *g, int64_t at, int64_t count) {
    struct numbers x, up, value, slope;
    take(g->gate, g, at, count, &x);
    take(g->up, g, at, count, &up);
    activate(g, &x, &value, &slope);
    EACH value.of[p] *= up.of[p];
    store(g->output, g->is_bf16, g->is_bf16, at, count, &value);
}

PART void differentiate(const struct gate *g, int64_t at, int64_t count) {
    struct numbers x, up, value, slope, gradient, inner;
    take(g->gate, g, at, count, &x);
    take(g->up, g, at, count, &up);
    take(g->gradient, g, at, count, &gradient);
    activate(g, &x, &value, &slope);
    EACH inner.of[p] = gradient.of[p] * up.of[p];
    if (g->is_bf16)
        round_to_bf16(&inner);
    EACH {
        inner.of[p] *= slope.of[p];
        gradient.of[p] *= value.of[p];
    }
    store(g->gate_gradient, g->is_bf16, g->is_bf16, at, count, &inner);
    store(g->up_gradient, g->is_bf16, g->is_bf16, at, count, &gradient);
}

PART void take_all(const struct gate *g, int64_t first, int64_t last, int is_backward) {
    int64_t at = first;
    for (; at + STEP <= last; at += STEP)
        if (is_backward)
            differentiate(g, at, STEP);
        else
            multiply(g, at, STEP);
    if (at < last && is_backward)
        differentiate(g, at, last - at);
    else if (at < last)
        multiply(g, at, last - at);
}

/* Format and activation as constants, which makes loops without branches. */
PART void take_block(const struct gate *given, int64_t first, int64_t last, int is_backward) {
    struct gate g = *given;
    if (given->is_bf16 && given->kind == SILU) {
        g.is_bf16 = 1, g.kind = SILU;
        take_all(&g, first, last, is_backward);
    } else if (given->is_bf16) {
        g.is_bf16 = 1, g.kind = GELU_TANH;
        take_all(&g, first, last, is_backward);
    } else {
        g.is_bf16 = 0;
        take_all(&g, first, last, is_backward);
    }
}

FOR_EACH_TARGET
static void multiply_gates(const void *job, int64_t first, int64_t last, int64_t block) {
    (void)block;
    take_block(job, first, last, 0);
}

FOR_EACH_TARGET
static void differentiate_gates(const void *job, int64_t first, int64_t last, int64_t block) {
    (void)block;
    take_block(job, first, last, 1);
}

void afina_multiply_gate(const struct gate *g, int64_t length, int threads) {
    afina_share_rows(multiply_gates, g, length, GATE_BLOCK, threads);
}

void afina_differentiate_gate(const struct gate *g, int64_t length, int threads) {
    afina_share_rows(differentiate_gates, g, length, GATE_BLOCK, threads);
}
