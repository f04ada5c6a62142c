/* Attention of short rows, and its gradient, each a head of keys at a time. short_attention.py has the formulas.

   Numbers in memory are bf16; everything between is fp32 and lies in a core's caches. All products are one loop: a
   number of one matrix times a row of another, lanes are places of that row. */

#include <math.h>

#include "attention.h"

/* The most keys and the widest head, as in short_attention.py; queries of one sum of the keys' gradients, and those
   that are multiplied together. */
enum { LONGEST = 128, WIDEST = 128, QUERIES = 32, TILE = 4 };

/* What a head of keys is computed in. Rows of keys and queries are `wide` numbers long, in which of thirty-two those at
   even places come first; turned ones are a place of all keys, `across` numbers long. Behind these there are zeros. */
struct room {
    float turned_keys[WIDEST * LONGEST], turned_values[WIDEST * LONGEST];
    float keys[WIDEST * LONGEST]; /* the forward pass has the values here */
    float key_gradient[WIDEST * LONGEST], value_gradient[WIDEST * LONGEST];
    float query[QUERIES * WIDEST], gradient[QUERIES * WIDEST];
    float weights[QUERIES * LONGEST], score_gradient[QUERIES * LONGEST];
    float result[TILE * WIDEST];
    int64_t wide, across;
} __attribute__((aligned(64)));

/* A number for each row of a tile, in all lanes. */
struct tile {
    vector of[TILE];
};
#define EACH_ROW for (int r = 0; r < TILE; r++)

PART void read_vector(const float *from, vector *to) { memcpy(to, from, sizeof *to); }

PART void write_vector(const vector *from, float *to) { memcpy(to, from, sizeof *from); }

PART void load_places(const uint16_t *row, int64_t at, int64_t count, float *to) {
    struct numbers numbers;
    load(row, 1, 1, at, count, 0, &numbers);
    memcpy(to + at, &numbers, sizeof numbers);
}

/* `count` rows, and zeros up to `padded` ones. */
PART void load_rows(const uint16_t *from, int64_t step, int64_t count, int64_t padded, int64_t width, float *to) {
    const int64_t wide = round_up(width, STEP), even = width / STEP * STEP;
    for (int64_t row = 0; row < count; row++) {
        for (int64_t at = 0; at < even; at += STEP)
            load_places(from + row * step, at, STEP, to + row * wide);
        if (even < width)
            load_places(from + row * step, even, width - even, to + row * wide);
    }
    for (int64_t at = count * wide; at < padded * wide; at += LANES)
        write_vector(&(vector){0}, to + at);
}

PART void store_places(const float *row, int64_t at, int64_t count, uint16_t *to) {
    struct numbers numbers;
    memcpy(&numbers, row + at, sizeof numbers);
    store(to, 1, 1, at, count, &numbers);
}

PART void store_rows(const float *from, int64_t count, int64_t width, uint16_t *to, int64_t step) {
    const int64_t wide = round_up(width, STEP), even = width / STEP * STEP;
    for (int64_t row = 0; row < count; row++) {
        for (int64_t at = 0; at < even; at += STEP)
            store_places(from + row * wide, at, STEP, to + row * step);
        if (even < width)
            store_places(from + row * wide, even, width - even, to + row * step);
    }
}

/* Sixteen rows of sixteen words, turned: four times rows of the first half between those of the second one. */
PART void turn_words(bits *rows) {
    for (int stage = 0; stage < 4; stage++) {
        bits mixed[LANES];
        for (int i = 0; i < LANES / 2; i++) {
            const bits one = rows[i], other = rows[i + LANES / 2];
            mixed[2 * i] = SHUFFLE(one, other, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
            mixed[2 * i + 1] = SHUFFLE(one, other, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
        }
        memcpy(rows, mixed, sizeof mixed);
    }
}

/* Thirty-two places, or the `count` last ones, of sixteen rows, or the fewer last ones. A word is an even and an odd
   place. */
PART void turn_block(const uint16_t *from, int64_t step, int64_t rows, int64_t count, int64_t across, float *to) {
    static const uint16_t nothing[STEP];
    bits words[LANES] = {0};
    for (int64_t row = 0; row < LANES; row++)
        copy_some(row < rows ? from + row * step : nothing, count * (int64_t)sizeof *from, sizeof words[row],
                  &words[row]);
    turn_words(words);
    for (int64_t word = 0; word < LANES; word++) {
        const vector even = (vector)(words[word] << 16), odd = (vector)(words[word] & 0xffff0000);
        write_vector(&even, to + word * across);
        write_vector(&odd, to + (word + LANES) * across);
    }
}

PART void turn_rows(const uint16_t *from, int64_t step, int64_t count, int64_t width, float *to) {
    const int64_t across = round_up(count, LANES), even = width / STEP * STEP;
    for (int64_t row = 0; row < count; row += LANES) {
        const uint16_t *first = from + row * step;
        for (int64_t at = 0; at < even; at += STEP)
            turn_block(first + at, step, count - row, STEP, across, to + at * across + row);
        if (even < width)
            turn_block(first + even, step, count - row, width - even, across, to + even * across + row);
    }
}

/* The factor whose numbers are taken one by one. */
struct factor {
    const float *numbers;
    int64_t down, along; /* steps from row to row and from place to place */
};

/* A tile's sums over `count` places of numbers of `left` times rows of `right`, for one or two vectors of lanes. */
PART void multiply_lanes(const struct factor *left, const float *right, int64_t step, int64_t count, int vectors,
                         int adds, float *to, int64_t to_step) {
    vector sums[TILE][2] = {{{0}}};
    if (adds)
        EACH_ROW for (int v = 0; v < vectors; v++) read_vector(to + r * to_step + v * LANES, &sums[r][v]);
    const float *numbers = left->numbers;
    for (int64_t place = 0; place < count; place++) {
        vector lanes[2];
        for (int v = 0; v < vectors; v++)
            read_vector(right + v * LANES, &lanes[v]);
        EACH_ROW for (int v = 0; v < vectors; v++) sums[r][v] += numbers[r * left->down] * lanes[v];
        right += step;
        numbers += left->along;
    }
    EACH_ROW for (int v = 0; v < vectors; v++) write_vector(&sums[r][v], to + r * to_step + v * LANES);
}

PART void multiply(const struct factor *left, const float *right, int64_t step, int64_t count, int64_t lanes, int adds,
                   float *to, int64_t to_step) {
    int64_t at = 0;
    for (; at + 2 * LANES <= lanes; at += 2 * LANES)
        multiply_lanes(left, right + at, step, count, 2, adds, to + at, to_step);
    if (at < lanes)
        multiply_lanes(left, right + at, step, count, 1, adds, to + at, to_step);
}

PART void combine(const vector *one, const vector *other, int is_sum, vector *to) {
    vector combined = *other;
    if (is_sum)
        combined += *one;
    else
        keep_larger(one, &combined);
    *to = combined;
}

/* Both vectors in one, halves of each combined in place. */
PART void fold_pair(const vector *one, const vector *other, int is_sum, vector *to) {
    const vector low = SHUFFLE(*one, *other, 0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23);
    const vector high = SHUFFLE(*one, *other, 8, 9, 10, 11, 12, 13, 14, 15, 24, 25, 26, 27, 28, 29, 30, 31);
    combine(&low, &high, is_sum, to);
}

/* The sum, then one over it, or the largest of each row's lanes, in all of them. */
PART void fold_rows(struct tile *rows, int is_sum, int inverts) {
    vector pairs[2], all, other;
    fold_pair(&rows->of[0], &rows->of[1], is_sum, &pairs[0]);
    fold_pair(&rows->of[2], &rows->of[3], is_sum, &pairs[1]);
    all = SHUFFLE(pairs[0], pairs[1], 0, 1, 2, 3, 8, 9, 10, 11, 16, 17, 18, 19, 24, 25, 26, 27);
    other = SHUFFLE(pairs[0], pairs[1], 4, 5, 6, 7, 12, 13, 14, 15, 20, 21, 22, 23, 28, 29, 30, 31);
    combine(&all, &other, is_sum, &all);
    other = SHUFFLE(all, all, 2, 3, 0, 1, 6, 7, 4, 5, 10, 11, 8, 9, 14, 15, 12, 13);
    combine(&all, &other, is_sum, &all);
    other = SHUFFLE(all, all, 1, 0, 3, 2, 5, 4, 7, 6, 9, 8, 11, 10, 13, 12, 15, 14);
    combine(&all, &other, is_sum, &all);
    if (inverts)
        all = 1.0f / all;
    rows->of[0] = SHUFFLE(all, all, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0);
    rows->of[1] = SHUFFLE(all, all, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4);
    rows->of[2] = SHUFFLE(all, all, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8);
    rows->of[3] = SHUFFLE(all, all, 12, 12, 12, 12, 12, 12, 12, 12, 12, 12, 12, 12, 12, 12, 12, 12);
}

/* A tile of queries of a head. */
struct queries {
    const uint8_t *mask; /* of the head's first query, or null */
    int64_t first, count, limit; /* keys from the limit on are seen by none of them */
};

PART const uint8_t *find_mask_row(const struct attention *a, const struct queries *q, int64_t row) {
    return q->mask + keep_below(q->first + row, a->queries - 1) * a->mask.place;
}

typedef uint8_t bytes __attribute__((vector_size(16)));

/* The last 1 to 15 bytes of a mask's row, of which `before` ones lie before, and zeros. Where there are eight they are
   read together and shifted: bytes that are put together in memory can't be read from there at once. */
PART void load_last_bytes(const uint8_t *from, int64_t count, int64_t before, bytes *to) {
    typedef uint64_t words __attribute__((vector_size(16)));
    uint64_t low = 0, high = 0;
    if (count > 8)
        memcpy(&high, from + count - 8, 8);
    if (count >= 8) {
        memcpy(&low, from, 8);
        high >>= 8 * (16 - count) & 63;
    } else if (before + count >= 8) {
        memcpy(&low, from + count - 8, 8);
        low >>= 8 * (8 - count);
    } else {
        copy_some(from, count, 8, &low);
    }
    *to = (bytes)(words){low, high};
}

/* All ones where the mask is. */
PART void load_allowed(const uint8_t *mask, int64_t at, int64_t keys, bits *to) {
    bytes raw;
    if (at + LANES <= keys)
        memcpy(&raw, mask + at, LANES);
    else
        load_last_bytes(mask + at, keys - at, at, &raw);
    *to = (bits)(__builtin_convertvector(raw, bits) != 0);
}

/* Scaled scores, minus infinity where a query may not look; `largest` of each lane. */
PART void scale_scores(const struct attention *a, const struct queries *q, float *scores, int64_t across,
                       struct tile *largest) {
    const bits lanes = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    const vector nothing = (vector){0} - INFINITY;
    EACH_ROW largest->of[r] = nothing;
    for (int64_t at = 0; at < q->limit; at += LANES) {
        bits allowed = ~(bits){0};
        EACH_ROW {
            const int64_t last = a->is_causal ? keep_below(q->first + r, a->keys - 1) : a->keys - 1;
            bits is_seen = (bits)((lanes + (uint32_t)at) <= (uint32_t)last);
            vector score;
            read_vector(scores + r * across + at, &score);
            score *= a->scaling;
            if (q->mask && (r == 0 || a->mask.place))
                load_allowed(find_mask_row(a, q, r), at, a->keys, &allowed);
            is_seen &= allowed;
            choose(&is_seen, &score, &nothing, &score);
            keep_larger(&score, &largest->of[r]);
            write_vector(&score, scores + r * across + at);
        }
    }
}

/* A query that may look nowhere looks everywhere alike, as with the least finite number for a mask. */
PART void forget_mask(const struct attention *a, const struct queries *q, float *scores, int64_t across,
                      struct tile *largest) {
    EACH_ROW {
        const uint8_t *mask = find_mask_row(a, q, r);
        if (largest->of[r][0] != -INFINITY || memchr(mask, 1, (size_t)a->keys))
            continue;
        largest->of[r] = (vector){0};
        for (int64_t key = 0; key < a->keys; key++)
            scores[r * across + key] = 0;
    }
}

/* The scores of a tile become probabilities. */
PART void take_softmax(const struct attention *a, const struct queries *q, float *scores, int64_t across) {
    struct tile largest, inverse = {{{0}}};
    scale_scores(a, q, scores, across, &largest);
    fold_rows(&largest, 0, 0);
    if (q->mask)
        forget_mask(a, q, scores, across, &largest);
    for (int64_t at = 0; at < q->limit; at += LANES)
        for (int r = 0; r < TILE; r += 2) {
            struct numbers power;
            EACH read_vector(scores + (r + p) * across + at, &power.of[p]);
            EACH power.of[p] -= largest.of[r + p];
            exponentiate(&power);
            EACH inverse.of[r + p] += power.of[p];
            EACH write_vector(&power.of[p], scores + (r + p) * across + at);
        }
    fold_rows(&inverse, 1, 1);
    for (int64_t at = 0; at < q->limit; at += LANES)
        EACH_ROW {
            vector weight;
            read_vector(scores + r * across + at, &weight);
            weight *= inverse.of[r];
            write_vector(&weight, scores + r * across + at);
        }
}

/* `gradient` is the one of the probabilities, and becomes the one of the products of queries and keys. */
PART void differentiate_softmax(const struct attention *a, const struct queries *q, const float *weights,
                                float *gradient, int64_t across) {
    struct tile dot = {{{0}}};
    vector weight, change;
    for (int64_t at = 0; at < q->limit; at += LANES)
        EACH_ROW {
            read_vector(weights + r * across + at, &weight);
            read_vector(gradient + r * across + at, &change);
            dot.of[r] += weight * change;
        }
    fold_rows(&dot, 1, 0);
    for (int64_t at = 0; at < q->limit; at += LANES)
        EACH_ROW {
            read_vector(weights + r * across + at, &weight);
            read_vector(gradient + r * across + at, &change);
            change = weight * (change - dot.of[r]) * a->scaling;
            write_vector(&change, gradient + r * across + at);
        }
}

/* A block of queries of a head. */
struct block {
    int64_t batch, head, first, count;
};

PART void find_tile(const struct attention *a, const struct block *b, int64_t row, struct queries *to) {
    const uint8_t *masks = a->mask.numbers;
    to->mask = masks ? masks + b->batch * a->mask.batch + b->head * a->mask.head : NULL;
    to->first = b->first + row;
    to->count = keep_below(b->count - row, TILE);
    to->limit = a->is_causal ? keep_below(to->first + TILE, a->keys) : a->keys;
}

PART void load_block(const struct attention *a, const struct block *b, const struct rows *from, float *to) {
    const uint16_t *head = find_head(from, b->batch, b->head);
    load_rows(head + b->first * from->place, from->place, b->count, round_up(b->count, TILE), a->width, to);
}

/* The products of each of the block's rows and all that is turned. */
PART void multiply_block(const struct attention *a, const struct block *b, const struct room *m, const float *rows,
                         const float *turned, float *to) {
    struct queries q;
    for (int64_t row = 0; row < b->count; row += TILE) {
        const struct factor left = {rows + row * m->wide, m->wide, 1};
        find_tile(a, b, row, &q);
        multiply(&left, turned, m->across, m->wide, round_up(q.limit, LANES), 0, to + row * m->across, m->across);
    }
}

/* Probabilities of a block. What waits for a tile's sums goes on with the next tile meanwhile, so this is a loop of its
   own. */
PART void find_weights(const struct attention *a, const struct block *b, struct room *m) {
    struct queries q;
    load_block(a, b, &a->query, m->query);
    multiply_block(a, b, m, m->query, m->turned_keys, m->weights);
    for (int64_t row = 0; row < b->count; row += TILE) {
        find_tile(a, b, row, &q);
        take_softmax(a, &q, m->weights + row * m->across, m->across);
    }
}

/* The sums of keys or values that the block's weights give, stored. */
PART void add_keys(const struct attention *a, const struct block *b, struct room *m, const float *weights,
                   const struct rows *to) {
    uint16_t *head = find_head(to, b->batch, b->head);
    struct queries q;
    for (int64_t row = 0; row < b->count; row += TILE) {
        const struct factor left = {weights + row * m->across, m->across, 1};
        find_tile(a, b, row, &q);
        multiply(&left, m->keys, m->wide, q.limit, m->wide, 0, m->result, m->wide);
        store_rows(m->result, q.count, a->width, head + q.first * to->place, to->place);
    }
}

PART void attend_queries(const struct attention *a, const struct block *b, struct room *m) {
    find_weights(a, b, m);
    add_keys(a, b, m, m->weights, &a->out);
}

/* What a block of queries adds to the gradients of keys and values. */
PART void add_queries(const struct attention *a, const struct block *b, struct room *m) {
    for (int64_t key = 0; key < a->keys; key += TILE) {
        const int64_t start = a->is_causal && key > b->first ? key - b->first : 0, at = start * m->across + key;
        if (start >= b->count)
            break;
        const struct factor weights = {m->weights + at, 1, m->across}, scores = {m->score_gradient + at, 1, m->across};
        multiply(&weights, m->gradient + start * m->wide, m->wide, b->count - start, m->wide, 1,
                 m->value_gradient + key * m->wide, m->wide);
        multiply(&scores, m->query + start * m->wide, m->wide, b->count - start, m->wide, 1,
                 m->key_gradient + key * m->wide, m->wide);
    }
}

PART void differentiate_queries(const struct attention *a, const struct block *b, struct room *m) {
    struct queries q;
    find_weights(a, b, m);
    load_block(a, b, &a->gradient, m->gradient);
    multiply_block(a, b, m, m->gradient, m->turned_values, m->score_gradient);
    for (int64_t row = 0; row < b->count; row += TILE) {
        find_tile(a, b, row, &q);
        differentiate_softmax(a, &q, m->weights + row * m->across, m->score_gradient + row * m->across, m->across);
    }
    add_keys(a, b, m, m->score_gradient, &a->query_gradient);
    add_queries(a, b, m);
}

/* All queries that share a head of keys. */
PART void take_queries(const struct attention *a, int64_t batch, int64_t head, int is_backward, struct room *m) {
    for (int64_t group = 0; group < a->groups; group++)
        for (int64_t first = 0; first < a->queries; first += QUERIES) {
            const struct block b = {batch, head * a->groups + group, first, keep_below(a->queries - first, QUERIES)};
            if (is_backward)
                differentiate_queries(a, &b, m);
            else
                attend_queries(a, &b, m);
        }
}

PART void measure_room(const struct attention *a, struct room *m) {
    m->wide = round_up(a->width, STEP);
    m->across = round_up(a->keys, LANES);
}

PART void attend_unit(const struct attention *a, int64_t batch, int64_t head, struct room *m) {
    turn_rows(find_head(&a->key, batch, head), a->key.place, a->keys, a->width, m->turned_keys);
    load_rows(find_head(&a->value, batch, head), a->value.place, a->keys, a->keys, a->width, m->keys);
    take_queries(a, batch, head, 0, m);
}

PART void differentiate_unit(const struct attention *a, int64_t batch, int64_t head, struct room *m) {
    const uint16_t *key = find_head(&a->key, batch, head);
    turn_rows(key, a->key.place, a->keys, a->width, m->turned_keys);
    turn_rows(find_head(&a->value, batch, head), a->value.place, a->keys, a->width, m->turned_values);
    load_rows(key, a->key.place, a->keys, a->keys, a->width, m->keys);
    memset(m->key_gradient, 0, (size_t)(m->across * m->wide) * sizeof(float));
    memset(m->value_gradient, 0, (size_t)(m->across * m->wide) * sizeof(float));
    take_queries(a, batch, head, 1, m);
    store_rows(m->key_gradient, a->keys, a->width, find_head(&a->key_gradient, batch, head), a->key_gradient.place);
    store_rows(m->value_gradient, a->keys, a->width, find_head(&a->value_gradient, batch, head),
               a->value_gradient.place);
}

FOR_EACH_TARGET
static void attend_short(const void *job, int64_t first, int64_t last, int64_t block) {
    const struct attention *a = job;
    struct room m;
    (void)block;
    measure_room(a, &m);
    for (int64_t unit = first; unit < last; unit++)
        attend_unit(a, unit / a->heads, unit % a->heads, &m);
}

FOR_EACH_TARGET
static void differentiate_short(const void *job, int64_t first, int64_t last, int64_t block) {
    const struct attention *a = job;
    struct room m;
    (void)block;
    measure_room(a, &m);
    for (int64_t unit = first; unit < last; unit++)
        differentiate_unit(a, unit / a->heads, unit % a->heads, &m);
}

void afina_attend_short(const struct attention *a, int64_t units, int threads) {
    afina_share_rows(attend_short, a, units, 1, threads);
}

void afina_differentiate_short(const struct attention *a, int64_t units, int threads) {
    afina_share_rows(differentiate_short, a, units, 1, threads);
}
