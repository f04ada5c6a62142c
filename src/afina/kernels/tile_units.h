/* Attention in bf16 and its gradient, each a head of keys at a time, for whatever multiplies blocks of numbers:
   tile_attention_amx.c, tile_attention_avx512.c. tile_attention.py has the formulas.

   Everything is divided into blocks of 32 x 32 numbers, and blocks that no query sees are left out. Scores are computed
   turned, keys by queries: what belongs to a query (its largest score, its sum, what it may see) then lies in a lane, and
   neither sums nor masks need numbers to change lanes.

   Right factors hold pairs of rows, as the processors' units want them. That gives four forms of a block, each of two tiles
   that lie one behind the other: LEFT and FLIPPED are left factors, of the block itself and of the turned one; PAIRED and
   TURNED are right factors. A tile is 16 rows of 32 numbers of a left factor, and of a right one 16 pairs of rows, each
   of 16 pairs of numbers.

   The file that includes this one names its target (FOR_TILES) and defines `struct sums`, the sums of a block, with

       clear_sums(sums), load_sums(sums, from)     which begin at zeros, or at what a block holds
       add_product(sums, left, right)              which adds the product of two blocks, at most MOST_BLOCKS times
       store_sums(sums, to)                        which writes them, in the order of their rows; nothing is read later
       start_products(), end_products()            which stand around all of a thread's products */

#include <immintrin.h>
#include <pthread.h>
#include <stdlib.h>

/* Blocks of queries that the gradients of keys are summed over at once. */
enum { MOST_GROUP = 4 };
/* Bytes of probabilities and scores of such a group that stay in a core's cache beside keys and values. */
enum { GROUP_BYTES = 768 * 1024 };
enum form { LEFT, TURNED, PAIRED, FLIPPED };
/* What queries of a block see of a block of keys. */
enum { NOTHING, SOME, ALL };

/* Two vectors: numbers of a block's 32 queries. */
struct pair {
    __m512 of[2];
};
#define EACH_HALF for (int h = 0; h < 2; h++)

/* Queries of a block, at most 32 of a head, and what they see. */
struct queries {
    int64_t batch, head, first, count;
    int64_t blocks; /* of keys, up to the last one that they see */
    uint32_t sighted; /* those whose scores count; the others may look nowhere, and look everywhere alike */
    uint8_t sees[MOST_BLOCKS];
    uint32_t (*allowed)[SIDE]; /* for a block of keys and a query a bit for each key; read where it sees SOME */
};

/* What a unit is computed in. The forward pass has no gradients. */
struct room {
    int64_t wide, across, group; /* blocks of a row's width, of the keys, and of the queries at once */
    uint16_t *key_left, *key_flipped, *value_left, *value_flipped;
    uint16_t *query_turned, *query_paired, *gradient_turned, *gradient_paired;
    float *scores, *weight_gradient; /* blocks of a row of keys: first that block's, then queries' */
    uint16_t *weights, *score_gradient, *score_gradient_paired;
    float *key_gradient, *value_gradient, *result;
    struct queries *queries;
};

/* Bits for the first `count` of thirty-two. */
TILED uint32_t find_first(int64_t count) { return count >= SIDE ? 0xffffffff : (1u << count) - 1; }

/* Sixteen rows of thirty-two numbers, with zeros behind the last row and the last place. Rows lie apart from each other
   by a token of all heads, which no processor foresees: those of the next block are asked for. */
TILED void read_rows(const uint16_t *from, int64_t step, int64_t rows, int64_t places, __m512i *to) {
    const __mmask32 is_there = find_first(places);
    for (int64_t row = 0; row < LANES; row++) {
        to[row] = row < rows ? _mm512_maskz_loadu_epi16(is_there, from + row * step) : _mm512_setzero_si512();
        _mm_prefetch(from + (row + SIDE) * step, _MM_HINT_T0);
    }
}

/* Sixteen rows of sixteen words, turned where they lie. */
TILED void turn_tile(__m512i *tile) {
    __m512i once[LANES], twice[LANES];
#pragma GCC unroll 16
    for (int i = 0; i < LANES; i += 2) {
        once[i] = _mm512_unpacklo_epi32(tile[i], tile[i + 1]);
        once[i + 1] = _mm512_unpackhi_epi32(tile[i], tile[i + 1]);
    }
#pragma GCC unroll 16
    for (int i = 0; i < LANES; i += 4)
        for (int pair = 0; pair < 2; pair++) {
            twice[i + 2 * pair] = _mm512_unpacklo_epi64(once[i + pair], once[i + pair + 2]);
            twice[i + 2 * pair + 1] = _mm512_unpackhi_epi64(once[i + pair], once[i + pair + 2]);
        }
    /* Each quarter of a vector now has four rows' numbers of one place. */
#pragma GCC unroll 16
    for (int i = 0; i < 4; i++) {
        const __m512i even = _mm512_shuffle_i32x4(twice[i], twice[i + 4], 0x88);
        const __m512i odd = _mm512_shuffle_i32x4(twice[i], twice[i + 4], 0xdd);
        const __m512i later_even = _mm512_shuffle_i32x4(twice[i + 8], twice[i + 12], 0x88);
        const __m512i later_odd = _mm512_shuffle_i32x4(twice[i + 8], twice[i + 12], 0xdd);
        tile[i] = _mm512_shuffle_i32x4(even, later_even, 0x88);
        tile[i + 4] = _mm512_shuffle_i32x4(odd, later_odd, 0x88);
        tile[i + 8] = _mm512_shuffle_i32x4(even, later_even, 0xdd);
        tile[i + 12] = _mm512_shuffle_i32x4(odd, later_odd, 0xdd);
    }
}

TILED __m512i find_low_pairs(void) {
    const __m512i count = (__m512i)(bits){0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    return _mm512_or_si512(count, _mm512_slli_epi32(_mm512_add_epi32(count, _mm512_set1_epi32(SIDE)), 16));
}

/* Two rows become words of a number of each; the first words, then the others. */
TILED void pair_rows(__m512i one, __m512i other, __m512i *low, __m512i *high) {
    const __m512i places = find_low_pairs(), half = _mm512_set1_epi16(LANES);
    *low = _mm512_permutex2var_epi16(one, places, other);
    *high = _mm512_permutex2var_epi16(one, _mm512_add_epi16(places, half), other);
}

/* A block in one of the forms, from up to 32 rows. */
TILED void pack_block(const uint16_t *from, int64_t step, int64_t rows, int64_t places, enum form form, uint16_t *to) {
    __m512i *tiles = (__m512i *)to, read[SIDE];
    const int is_paired = form == PAIRED || form == FLIPPED;
    EACH_HALF {
        __m512i *half = (is_paired ? read : tiles) + h * LANES;
        read_rows(from + h * LANES * step, step, rows - h * LANES, places, half);
    }
    for (int row = 0; is_paired && row < SIDE; row += 2)
        pair_rows(read[row], read[row + 1], tiles + row / 2, tiles + row / 2 + LANES);
    if (form == TURNED || form == FLIPPED)
        EACH_HALF turn_tile(tiles + h * LANES);
}

static FOR_TILES void pack_rows(const uint16_t *from, int64_t step, int64_t count, int64_t width, enum form form,
                                uint16_t *to) {
    for (int64_t row = 0; row < count; row += SIDE)
        for (int64_t at = 0; at < width; at += SIDE, to += BLOCK) {
            const uint16_t *first = from + row * step + at;
            switch (form) { /* a constant in each case */
            case LEFT: pack_block(first, step, count - row, width - at, LEFT, to); break;
            case TURNED: pack_block(first, step, count - row, width - at, TURNED, to); break;
            case PAIRED: pack_block(first, step, count - row, width - at, PAIRED, to); break;
            default: pack_block(first, step, count - row, width - at, FLIPPED, to);
            }
        }
}

/* A block of `left` times the turned `right`, both blocks in a row. */
TILED void multiply_row(const uint16_t *left, const uint16_t *right, int64_t count, float *to) {
    struct sums sums;
    clear_sums(&sums);
    for (int64_t at = 0; at < count; at++)
        add_product(&sums, left + at * BLOCK, right + at * BLOCK);
    store_sums(&sums, to);
}

/* 2^x as 2^floor(x) times a polynomial of degree 5 for what is left, off by 8e-8 at most. Fused operations may be used
   here: there is one kind of processor alone that computes this. */
TILED __m512 raise(__m512 power) {
    const __m512 rest = _mm512_reduce_ps(power, 9); /* less what is rounded down */
    __m512 sum = _mm512_fmadd_ps(rest, _mm512_set1_ps(1.877576671e-3f), _mm512_set1_ps(8.989340340e-3f));
    sum = _mm512_fmadd_ps(sum, rest, _mm512_set1_ps(5.582631759e-2f));
    sum = _mm512_fmadd_ps(sum, rest, _mm512_set1_ps(2.401536173e-1f));
    sum = _mm512_fmadd_ps(sum, rest, _mm512_set1_ps(6.931530731e-1f));
    sum = _mm512_fmadd_ps(sum, rest, _mm512_set1_ps(9.999999251e-1f));
    return _mm512_scalef_ps(sum, power);
}

/* The logarithm to base 2 that is the inverse of it, by Newton's steps. */
TILED __m512 find_power(__m512 number) {
    const __m512 one = _mm512_set1_ps(1.0f);
    const __m512 fraction = _mm512_getmant_ps(number, _MM_MANT_NORM_1_2, _MM_MANT_SIGN_src);
    __m512 power = _mm512_add_ps(_mm512_getexp_ps(number), _mm512_sub_ps(fraction, one));
    for (int step = 0; step < 3; step++) {
        const __m512 less = _mm512_sub_ps(_mm512_setzero_ps(), power);
        const __m512 off = _mm512_fmsub_ps(number, raise(less), one);
        power = _mm512_fmadd_ps(off, _mm512_set1_ps(1.44269504f), power);
    }
    return power;
}

TILED float find_scale(const struct attention *a) { return a->scaling * 1.44269504f; }

TILED __mmask16 find_half(uint32_t mask, int half) { return (__mmask16)(mask >> half * LANES); }

/* Bits for the keys of a block that a row of the mask allows. */
TILED uint32_t read_mask(const uint8_t *row, int64_t keys) {
    const __m256i read = _mm256_maskz_loadu_epi8(find_first(keys), row);
    return _mm256_test_epi8_mask(read, read);
}

TILED uint32_t find_keys(const struct attention *a, int64_t block) {
    return find_first(a->keys - block * SIDE);
}

/* What queries may see by the mask, the first `count` of them. */
TILED uint32_t read_masks(const struct attention *a, struct queries *q, int64_t count) {
    const uint8_t *mask = (const uint8_t *)a->mask.numbers + q->batch * a->mask.batch + q->head * a->mask.head;
    uint32_t sighted = 0;
    for (int64_t row = 0; row < count; row++) {
        const uint8_t *from = mask + (q->first + row) * a->mask.place;
        uint32_t all = 0;
        for (int64_t block = 0; block < q->blocks; block++) {
            const uint32_t bits_ = read_mask(from + block * SIDE, a->keys - block * SIDE);
            q->allowed[block][row] = bits_;
            all |= bits_;
        }
        if (all) {
            sighted |= 1u << row;
            continue;
        }
        for (int64_t block = 0; block < q->blocks; block++)
            q->allowed[block][row] = find_keys(a, block);
    }
    return sighted;
}

/* One row for all queries, or no mask. */
TILED void repeat_masks(struct queries *q) {
    for (int64_t block = 0; block < q->blocks; block++) {
        const __m512i all = _mm512_set1_epi32((int)q->allowed[block][0]);
        EACH_HALF _mm512_storeu_si512(q->allowed[block] + h * LANES, all);
    }
}

TILED void fill_masks(const struct attention *a, struct queries *q) {
    q->sighted = read_masks(a, q, a->mask.place ? q->count : 1);
    if (!a->mask.place) {
        q->sighted = q->sighted ? 0xffffffff : 0;
        repeat_masks(q);
    }
}

/* Without a mask: all keys, or those up to a query's own. */
TILED void fill_without_mask(const struct attention *a, struct queries *q) {
    for (int64_t block = 0; block < q->blocks; block++)
        q->allowed[block][0] = find_keys(a, block);
    repeat_masks(q);
    if (a->is_causal) /* the queries' own block is the last one */
        for (int row = 0; row < SIDE; row++)
            q->allowed[q->blocks - 1][row] &= find_first(row + 1);
}

TILED uint8_t judge_block(const uint32_t *allowed) {
    const __m512i one = _mm512_loadu_si512(allowed), other = _mm512_loadu_si512(allowed + LANES);
    const __m512i some = _mm512_or_si512(one, other), all = _mm512_and_si512(one, other);
    if (!_mm512_test_epi32_mask(some, some))
        return NOTHING;
    return _mm512_cmpneq_epi32_mask(all, _mm512_set1_epi32(-1)) ? SOME : ALL;
}

/* Finds what a block of queries sees. Queries behind the last one see nothing. Where some look everywhere alike, no block
   counts as seen by all: there scores would be taken as they are. */
static FOR_TILES void find_queries(const struct attention *a, int64_t batch, int64_t head, int64_t first,
                                   struct queries *q) {
    q->batch = batch, q->head = head, q->first = first;
    q->count = keep_below(a->queries - first, SIDE);
    q->blocks = ((a->is_causal ? first + q->count : a->keys) + SIDE - 1) / SIDE;
    q->sighted = 0xffffffff;
    if (a->mask.numbers)
        fill_masks(a, q);
    else
        fill_without_mask(a, q);
    for (int64_t block = 0; block < q->blocks; block++) {
        uint32_t *allowed = q->allowed[block];
        for (int64_t row = q->count; row < SIDE; row++)
            allowed[row] = 0;
        q->sees[block] = judge_block(allowed);
        if (q->sees[block] == ALL && q->sighted != 0xffffffff)
            q->sees[block] = SOME;
    }
}

/* The scaled scores of a key, half of the queries; those that look everywhere alike have 0. */
TILED __m512 scale_scores(const float *scores, const struct queries *q, int is_masked, int half, __m512 scale) {
    const __m512 read = _mm512_loadu_ps(scores + half * LANES);
    return is_masked ? _mm512_maskz_mul_ps(find_half(q->sighted, half), read, scale) : _mm512_mul_ps(read, scale);
}

/* Which of half of the queries may look at a key of the block. */
TILED __mmask16 find_seeing(const uint32_t *allowed, int half, int key) {
    return _mm512_test_epi32_mask(_mm512_loadu_si512(allowed + half * LANES), _mm512_set1_epi32((int)(1u << key)));
}

TILED void find_largest(const float *scores, const struct queries *q, const uint32_t *allowed, int is_masked,
                        float scaling, struct pair *largest) {
    const __m512 scale = _mm512_set1_ps(scaling);
    struct pair even = *largest, odd = *largest;
    for (int key = 0; key < SIDE; key += 2)
        EACH_HALF {
            const __m512 one = scale_scores(scores + key * SIDE, q, is_masked, h, scale);
            const __m512 other = scale_scores(scores + (key + 1) * SIDE, q, is_masked, h, scale);
            const __mmask16 first = is_masked ? find_seeing(allowed, h, key) : 0xffff;
            const __mmask16 second = is_masked ? find_seeing(allowed, h, key + 1) : 0xffff;
            even.of[h] = _mm512_mask_max_ps(even.of[h], first, even.of[h], one);
            odd.of[h] = _mm512_mask_max_ps(odd.of[h], second, odd.of[h], other);
        }
    EACH_HALF largest->of[h] = _mm512_max_ps(even.of[h], odd.of[h]);
}

/* e to the power of scaled scores, less what belongs to the query: probabilities, or in proportion to them. */
TILED __m512 weigh(const float *scores, const struct queries *q, const uint32_t *allowed, int is_masked, int half,
                   int key, __m512 scale, __m512 less) {
    const float *row = scores + key * SIDE + half * LANES;
    if (!is_masked)
        return raise(_mm512_fmsub_ps(_mm512_loadu_ps(row), scale, less));
    const __m512 score = _mm512_maskz_loadu_ps(find_half(q->sighted, half), row);
    return _mm512_maskz_mov_ps(find_seeing(allowed, half, key), raise(_mm512_fmsub_ps(score, scale, less)));
}

TILED __m512i round_pair(__m512 low, __m512 high) { return (__m512i)_mm512_cvtne2ps_pbh(high, low); }

/* Words of a number of each. */
TILED __m512i mix_pair(__m512 low, __m512 high) {
    const __m512i places = find_low_pairs();
    /* The second vector's numbers lie from the sixteenth place on. */
    const __m512i nearer = _mm512_sub_epi16(places, _mm512_slli_epi32(_mm512_set1_epi32(LANES), 16));
    return _mm512_permutexvar_epi16(nearer, round_pair(low, high));
}

/* A block of weights as a right factor, and what each query has of them. */
TILED void weigh_block(const float *scores, const struct queries *q, const uint32_t *allowed, int is_masked,
                       float scaling, const struct pair *largest, struct pair *sums, uint16_t *to) {
    const __m512 scale = _mm512_set1_ps(scaling);
    for (int key = 0; key < SIDE; key += 2)
        EACH_HALF {
            const __m512 one = weigh(scores, q, allowed, is_masked, h, key, scale, largest->of[h]);
            const __m512 other = weigh(scores, q, allowed, is_masked, h, key + 1, scale, largest->of[h]);
            sums->of[h] = _mm512_add_ps(sums->of[h], _mm512_add_ps(one, other));
            _mm512_storeu_si512(to + h * TILE + key * LANES, mix_pair(one, other));
        }
}

/* A block of sums times a factor for each query, places by queries, becomes rows of queries. */
static FOR_TILES void store_queries(const float *sums, const struct pair *factors, int64_t count, int64_t places,
                                    uint16_t *to, int64_t step) {
    const __mmask32 is_there = find_first(places);
    EACH_HALF {
        __m512i words[LANES];
        for (int place = 0; place < SIDE; place += 2) {
            const float *row = sums + place * SIDE + h * LANES;
            const __m512 one = _mm512_mul_ps(_mm512_loadu_ps(row), factors->of[h]);
            const __m512 other = _mm512_mul_ps(_mm512_loadu_ps(row + SIDE), factors->of[h]);
            words[place / 2] = mix_pair(one, other);
        }
        turn_tile(words);
        for (int64_t row = h * LANES; row < keep_below(count, (h + 1) * LANES); row++)
            _mm512_mask_storeu_epi16(to + row * step, is_there, words[row % LANES]);
    }
}

/* Sums over the keys that queries see, of a left factor's blocks, for each block of places. */
TILED void add_keys(const struct attention *a, const struct room *m, const struct queries *q, const uint16_t *left,
                    const uint16_t *right, int64_t right_step, const struct pair *factors, const struct rows *to) {
    uint16_t *first = find_head(to, q->batch, q->head) + q->first * to->place;
    for (int64_t at = 0; at < m->wide; at++) {
        struct sums sums;
        clear_sums(&sums);
        for (int64_t block = 0; block < q->blocks; block++)
            if (q->sees[block])
                add_product(&sums, left + (block * m->wide + at) * BLOCK, right + block * right_step);
        store_sums(&sums, m->result);
        store_queries(m->result, factors, q->count, a->width - at * SIDE, first + at * SIDE, to->place);
    }
}

TILED float *find_logs(const struct attention *a, const struct queries *q) {
    return a->logs + (q->batch * a->heads * a->groups + q->head) * a->queries + q->first;
}

TILED __mmask16 find_present(const struct queries *q, int half) {
    return find_half(find_first(q->count), half);
}

TILED void keep_logs(const struct attention *a, const struct queries *q, const struct pair *largest,
                     const struct pair *sums) {
    EACH_HALF {
        const __m512 log = _mm512_add_ps(largest->of[h], find_power(sums->of[h]));
        _mm512_mask_storeu_ps(find_logs(a, q) + h * LANES, find_present(q, h), log);
    }
}

TILED void attend_queries(const struct attention *a, const struct room *m, const struct queries *q) {
    const uint16_t *query = find_head(&a->query, q->batch, q->head) + q->first * a->query.place;
    const float scale = find_scale(a);
    struct pair largest, sums;
    EACH_HALF largest.of[h] = _mm512_set1_ps(-__builtin_inff()), sums.of[h] = _mm512_setzero_ps();
    pack_rows(query, a->query.place, q->count, a->width, TURNED, m->query_turned);
    for (int64_t block = 0; block < q->blocks; block++) {
        float *scores = m->scores + block * BLOCK;
        if (!q->sees[block])
            continue;
        multiply_row(m->key_left + block * m->wide * BLOCK, m->query_turned, m->wide, scores);
        if (q->sees[block] == ALL)
            find_largest(scores, q, 0, 0, scale, &largest);
        else
            find_largest(scores, q, q->allowed[block], 1, scale, &largest);
    }
    for (int64_t block = 0; block < q->blocks; block++) {
        const float *scores = m->scores + block * BLOCK;
        uint16_t *weights = m->weights + block * BLOCK;
        if (q->sees[block] == ALL)
            weigh_block(scores, q, 0, 0, scale, &largest, &sums, weights);
        else if (q->sees[block])
            weigh_block(scores, q, q->allowed[block], 1, scale, &largest, &sums, weights);
    }
    if (a->logs)
        keep_logs(a, q, &largest, &sums);
    EACH_HALF sums.of[h] = _mm512_div_ps(_mm512_set1_ps(1.0f), sums.of[h]);
    add_keys(a, m, q, m->value_flipped, m->weights, BLOCK, &sums, &a->out);
}

/* The probabilities of a block as a left factor, and of each query the sum of their products with their gradient. */
TILED void find_weights(const float *scores, const float *gradient, const struct queries *q, const uint32_t *allowed,
                        int is_masked, float scaling, const struct pair *logs, struct pair *dots, uint16_t *to) {
    const __m512 scale = _mm512_set1_ps(scaling);
    for (int key = 0; key < SIDE; key++) {
        struct pair weight;
        EACH_HALF {
            const __m512 change = _mm512_loadu_ps(gradient + key * SIDE + h * LANES);
            weight.of[h] = weigh(scores, q, allowed, is_masked, h, key, scale, logs->of[h]);
            if (is_masked)
                dots->of[h] = _mm512_mask3_fmadd_ps(weight.of[h], change, dots->of[h], find_seeing(allowed, h, key));
            else
                dots->of[h] = _mm512_fmadd_ps(weight.of[h], change, dots->of[h]);
        }
        _mm512_storeu_si512(to + key * SIDE, round_pair(weight.of[0], weight.of[1]));
    }
}

/* The gradient of a key's scores, but for the scale. */
TILED __m512i differentiate_key(const uint16_t *weights, const float *gradient, const uint32_t *allowed, int is_masked,
                                int key, const struct pair *dots) {
    const __m512i read = _mm512_loadu_si512(weights + key * SIDE);
    const __m256i halves[2] = {_mm512_castsi512_si256(read), _mm512_extracti64x4_epi64(read, 1)};
    struct pair found;
    EACH_HALF {
        const __m512 weight = _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(halves[h]), 16));
        const __m512 change = _mm512_sub_ps(_mm512_loadu_ps(gradient + key * SIDE + h * LANES), dots->of[h]);
        const __mmask16 is_seen = is_masked ? find_seeing(allowed, h, key) : 0xffff;
        found.of[h] = _mm512_maskz_mul_ps(is_seen, weight, change);
    }
    return round_pair(found.of[0], found.of[1]);
}

/* The gradient of a block's scores as a left and as a right factor. */
TILED void differentiate_scores(const uint16_t *weights, const float *gradient, const uint32_t *allowed, int is_masked,
                                const struct pair *dots, uint16_t *left, uint16_t *paired) {
    for (int key = 0; key < SIDE; key += 2) {
        const __m512i one = differentiate_key(weights, gradient, allowed, is_masked, key, dots);
        const __m512i other = differentiate_key(weights, gradient, allowed, is_masked, key + 1, dots);
        __m512i mixed[2];
        pair_rows(one, other, &mixed[0], &mixed[1]);
        _mm512_storeu_si512(left + key * SIDE, one);
        _mm512_storeu_si512(left + (key + 1) * SIDE, other);
        EACH_HALF _mm512_storeu_si512(paired + h * TILE + key * LANES, mixed[h]);
    }
}

TILED int64_t find_place(const struct room *m, int64_t block, int64_t number) {
    return (block * m->group + number) * BLOCK;
}

/* Probabilities of a group's block `number`, their gradient, and that of the scores. */
TILED void differentiate_softmax(const struct attention *a, const struct room *m, int64_t number) {
    const struct queries *q = m->queries + number;
    const uint16_t *query = m->query_turned + number * m->wide * BLOCK;
    const uint16_t *gradient = m->gradient_turned + number * m->wide * BLOCK;
    const float scale = find_scale(a);
    struct pair logs, dots;
    EACH_HALF logs.of[h] = _mm512_maskz_loadu_ps(find_present(q, h), find_logs(a, q) + h * LANES);
    EACH_HALF dots.of[h] = _mm512_setzero_ps();
    for (int64_t block = 0; block < q->blocks; block++) {
        const int64_t at = find_place(m, block, number);
        float *change = m->weight_gradient + at;
        if (!q->sees[block])
            continue;
        multiply_row(m->key_left + block * m->wide * BLOCK, query, m->wide, m->scores);
        multiply_row(m->value_left + block * m->wide * BLOCK, gradient, m->wide, change);
        if (q->sees[block] == ALL)
            find_weights(m->scores, change, q, 0, 0, scale, &logs, &dots, m->weights + at);
        else
            find_weights(m->scores, change, q, q->allowed[block], 1, scale, &logs, &dots, m->weights + at);
    }
    for (int64_t block = 0; block < q->blocks; block++) {
        const int64_t at = find_place(m, block, number);
        const float *change = m->weight_gradient + at;
        uint16_t *left = m->score_gradient + at, *paired = m->score_gradient_paired + at;
        if (q->sees[block] == ALL)
            differentiate_scores(m->weights + at, change, 0, 0, &dots, left, paired);
        else if (q->sees[block])
            differentiate_scores(m->weights + at, change, q->allowed[block], 1, &dots, left, paired);
    }
}

TILED int sees_block(const struct queries *q, int64_t block) { return block < q->blocks && q->sees[block]; }

/* Adds to a block of keys what a group's queries that see it give: `left` numbers times rows of `right`. */
TILED void add_queries(const struct room *m, int64_t count, int64_t block, const uint16_t *left, const uint16_t *right,
                       float *sums) {
    for (int64_t at = 0; at < m->wide; at++) {
        float *to = sums + (block * m->wide + at) * BLOCK;
        struct sums here;
        load_sums(&here, to);
        for (int64_t number = 0; number < count; number++)
            if (sees_block(m->queries + number, block))
                add_product(&here, left + find_place(m, block, number), right + (number * m->wide + at) * BLOCK);
        store_sums(&here, to);
    }
}

/* A group's queries and the gradients of their outputs as factors. */
TILED void pack_queries(const struct attention *a, const struct room *m, int64_t number) {
    const struct queries *q = m->queries + number;
    const int64_t at = number * m->wide * BLOCK;
    const uint16_t *query = find_head(&a->query, q->batch, q->head) + q->first * a->query.place;
    const uint16_t *gradient = find_head(&a->gradient, q->batch, q->head) + q->first * a->gradient.place;
    pack_rows(query, a->query.place, q->count, a->width, TURNED, m->query_turned + at);
    pack_rows(query, a->query.place, q->count, a->width, PAIRED, m->query_paired + at);
    pack_rows(gradient, a->gradient.place, q->count, a->width, TURNED, m->gradient_turned + at);
    pack_rows(gradient, a->gradient.place, q->count, a->width, PAIRED, m->gradient_paired + at);
}

TILED void differentiate_group(const struct attention *a, const struct room *m, int64_t count) {
    struct pair factors;
    EACH_HALF factors.of[h] = _mm512_set1_ps(a->scaling);
    for (int64_t number = 0; number < count; number++) {
        const struct queries *q = m->queries + number;
        pack_queries(a, m, number);
        differentiate_softmax(a, m, number);
        add_keys(a, m, q, m->key_flipped, m->score_gradient_paired + find_place(m, 0, number), m->group * BLOCK,
                 &factors, &a->query_gradient);
    }
    for (int64_t block = 0; block < m->across; block++) {
        int is_seen = 0;
        for (int64_t number = 0; number < count; number++)
            is_seen |= sees_block(m->queries + number, block);
        if (!is_seen)
            continue;
        add_queries(m, count, block, m->weights, m->gradient_paired, m->value_gradient);
        add_queries(m, count, block, m->score_gradient, m->query_paired, m->key_gradient);
    }
}

/* Rows of keys from their blocks of sums. */
static FOR_TILES void store_keys(const struct attention *a, const struct room *m, const float *sums, float factor,
                                 uint16_t *to, int64_t step) {
    const __m512 scale = _mm512_set1_ps(factor);
    for (int64_t key = 0; key < a->keys; key++)
        for (int64_t at = 0; at < m->wide; at++) {
            const float *row = sums + (key / SIDE * m->wide + at) * BLOCK + key % SIDE * SIDE;
            const int64_t places = a->width - at * SIDE;
            const __mmask32 is_there = find_first(places);
            const __m512 low = _mm512_mul_ps(_mm512_loadu_ps(row), scale);
            const __m512 high = _mm512_mul_ps(_mm512_loadu_ps(row + LANES), scale);
            _mm512_mask_storeu_epi16(to + key * step + at * SIDE, is_there, round_pair(low, high));
        }
}

/* Finds it for a block of queries of a group's heads, or takes what was found for the last one of these. */
TILED void find_in_group(const struct attention *a, int64_t batch, int64_t head, int64_t group, int64_t first,
                         struct queries *q) {
    if (group == 0 || a->mask.head)
        find_queries(a, batch, head * a->groups + group, first, q);
    q->head = head * a->groups + group;
}

static FOR_TILES void attend_unit(const struct attention *a, int64_t batch, int64_t head, const struct room *m) {
    pack_rows(find_head(&a->key, batch, head), a->key.place, a->keys, a->width, LEFT, m->key_left);
    pack_rows(find_head(&a->value, batch, head), a->value.place, a->keys, a->width, FLIPPED, m->value_flipped);
    for (int64_t first = 0; first < a->queries; first += SIDE)
        for (int64_t group = 0; group < a->groups; group++) {
            find_in_group(a, batch, head, group, first, m->queries);
            attend_queries(a, m, m->queries);
        }
}

static FOR_TILES void differentiate_unit(const struct attention *a, int64_t batch, int64_t head, const struct room *m) {
    const size_t bytes = (size_t)(m->across * m->wide * BLOCK) * sizeof(float);
    const uint16_t *key = find_head(&a->key, batch, head);
    pack_rows(key, a->key.place, a->keys, a->width, LEFT, m->key_left);
    pack_rows(key, a->key.place, a->keys, a->width, FLIPPED, m->key_flipped);
    pack_rows(find_head(&a->value, batch, head), a->value.place, a->keys, a->width, LEFT, m->value_left);
    memset(m->key_gradient, 0, bytes);
    memset(m->value_gradient, 0, bytes);
    for (int64_t first = 0; first < a->queries; first += m->group * SIDE)
        for (int64_t group = 0; group < a->groups; group++) {
            int64_t count = 0;
            for (; count < m->group && first + count * SIDE < a->queries; count++)
                find_in_group(a, batch, head, group, first + count * SIDE, m->queries + count);
            differentiate_group(a, m, count);
        }
    store_keys(a, m, m->key_gradient, a->scaling, find_head(&a->key_gradient, batch, head), a->key_gradient.place);
    store_keys(a, m, m->value_gradient, 1.0f, find_head(&a->value_gradient, batch, head), a->value_gradient.place);
}

/* The next piece of the memory that lies from `base` on; with no base what is wanted is only counted. */
static void *take_piece(char *base, size_t *used, int64_t bytes) {
    void *piece = base ? base + *used : 0;
    *used += (size_t)round_up(bytes, 64);
    return piece;
}

/* Lays out a unit's memory; gives how much it is. */
static size_t lay_out(const struct attention *a, int is_backward, char *base, struct room *m) {
    const int64_t half = BLOCK * sizeof(uint16_t), whole = BLOCK * sizeof(float);
    const int64_t wide = (a->width + SIDE - 1) / SIDE, across = (a->keys + SIDE - 1) / SIDE;
    const int64_t fitting = GROUP_BYTES / (across * (whole + 3 * half)), blocks = (a->queries + SIDE - 1) / SIDE;
    const int64_t most = keep_below(keep_below(MOST_GROUP, blocks), fitting > 1 ? fitting : 1);
    const int64_t group = is_backward ? most : 1;
    size_t used = 0;
    m->wide = wide, m->across = across, m->group = group;
    m->key_left = take_piece(base, &used, across * wide * half);
    m->query_turned = take_piece(base, &used, group * wide * half);
    m->weights = take_piece(base, &used, across * group * half);
    m->result = take_piece(base, &used, whole);
    m->scores = take_piece(base, &used, is_backward ? whole : across * whole);
    m->queries = take_piece(base, &used, group * (int64_t)sizeof *m->queries);
    for (int64_t number = 0; number < group; number++) {
        void *allowed = take_piece(base, &used, across * SIDE * (int64_t)sizeof(uint32_t));
        if (base)
            m->queries[number].allowed = allowed;
    }
    if (!is_backward) {
        m->value_flipped = take_piece(base, &used, across * wide * half);
        return used;
    }
    m->key_flipped = take_piece(base, &used, across * wide * half);
    m->value_left = take_piece(base, &used, across * wide * half);
    m->query_paired = take_piece(base, &used, group * wide * half);
    m->gradient_turned = take_piece(base, &used, group * wide * half);
    m->gradient_paired = take_piece(base, &used, group * wide * half);
    m->weight_gradient = take_piece(base, &used, across * group * whole);
    m->score_gradient = take_piece(base, &used, across * group * half);
    m->score_gradient_paired = take_piece(base, &used, across * group * half);
    m->key_gradient = take_piece(base, &used, across * wide * whole);
    m->value_gradient = take_piece(base, &used, across * wide * whole);
    return used;
}

/* A thread's memory, kept from call to call: pages that a system gives anew take longer than the work. */
struct memory {
    size_t bytes;
    char *first;
};

static pthread_key_t memory_key;
static pthread_once_t memory_once = PTHREAD_ONCE_INIT;

static void forget_memory(void *memory) {
    free(((struct memory *)memory)->first);
    free(memory);
}

static void make_memory_key(void) { pthread_key_create(&memory_key, forget_memory); }

/* Null where there is no memory. */
static char *find_memory(size_t bytes) {
    pthread_once(&memory_once, make_memory_key);
    struct memory *memory = pthread_getspecific(memory_key);
    if (!memory) {
        memory = calloc(1, sizeof *memory);
        if (!memory || pthread_setspecific(memory_key, memory))
            return free(memory), (char *)0;
    }
    if (memory->bytes < bytes) {
        free(memory->first);
        memory->bytes = 0;
        memory->first = aligned_alloc(4096, (size_t)round_up((int64_t)bytes, 4096));
        if (memory->first)
            memory->bytes = bytes;
    }
    return memory->first;
}

struct job {
    const struct attention *attention;
    int is_backward;
    int *failed;
};

static FOR_TILES void take_units(const void *context, int64_t first, int64_t last, int64_t block) {
    const struct job *job = context;
    const struct attention *a = job->attention;
    struct room m;
    char *base = find_memory(lay_out(a, job->is_backward, 0, &m));
    (void)block;
    if (!base) {
        __atomic_store_n(job->failed, 1, __ATOMIC_RELAXED);
        return;
    }
    lay_out(a, job->is_backward, base, &m);
    start_products();
    for (int64_t unit = first; unit < last; unit++)
        if (job->is_backward)
            differentiate_unit(a, unit / a->heads, unit % a->heads, &m);
        else
            attend_unit(a, unit / a->heads, unit % a->heads, &m);
    end_products();
}

static int share_units(const struct attention *a, int64_t units, int threads, int is_backward) {
    int failed = 0;
    const struct job job = {a, is_backward, &failed};
    afina_share_rows(take_units, &job, units, 1, threads);
    return failed;
}

