/* Attention by the products of AVX512-BF16: sixteen sums of two products each, of a pair of numbers of a left factor's row
   with the pairs of a right factor's. */

#include "tile_attention.h"

#if HAS_TILES

#include <immintrin.h>

#define FOR_TILES __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512bf16")))

/* Rows whose sums stay in registers: sixteen of the thirty-two, which leaves room for factors. */
enum { ROWS = 8 };

/* No registers hold the sums of a whole block, so factors are kept until all are there. */
struct sums {
    const float *from; /* null for zeros */
    int64_t count;
    const uint16_t *left[MOST_BLOCKS], *right[MOST_BLOCKS];
};

TILED void clear_sums(struct sums *sums) { sums->from = 0, sums->count = 0; }

TILED void load_sums(struct sums *sums, const float *from) { sums->from = from, sums->count = 0; }

TILED void add_product(struct sums *sums, const uint16_t *left, const uint16_t *right) {
    sums->left[sums->count] = left;
    sums->right[sums->count++] = right;
}

/* A pair of numbers in each lane. */
TILED __m512bh repeat_pair(const uint16_t *numbers) {
    int32_t pair;
    memcpy(&pair, numbers, sizeof pair);
    return (__m512bh)_mm512_set1_epi32(pair);
}

/* Adds the product of some rows of a left factor with a right one. */
TILED void add_rows(const uint16_t *left, const uint16_t *right, __m512 (*sums)[2]) {
    for (int at = 0; at < SIDE; at += 2, right += SIDE) {
        const __m512bh low = (__m512bh)_mm512_loadu_si512(right), high = (__m512bh)_mm512_loadu_si512(right + TILE);
#pragma GCC unroll 8
        for (int row = 0; row < ROWS; row++) {
            const __m512bh pair = repeat_pair(left + row * SIDE + at);
            sums[row][0] = _mm512_dpbf16_ps(sums[row][0], pair, low);
            sums[row][1] = _mm512_dpbf16_ps(sums[row][1], pair, high);
        }
    }
}

TILED void store_sums(struct sums *sums, float *to) {
    for (int first = 0; first < SIDE; first += ROWS) {
        __m512 rows[ROWS][2];
#pragma GCC unroll 8
        for (int row = 0; row < ROWS; row++)
            for (int h = 0; h < 2; h++)
                rows[row][h] = sums->from ? _mm512_loadu_ps(sums->from + (first + row) * SIDE + h * LANES)
                                          : _mm512_setzero_ps();
        for (int64_t number = 0; number < sums->count; number++)
            add_rows(sums->left[number] + first * SIDE, sums->right[number], rows);
#pragma GCC unroll 8
        for (int row = 0; row < ROWS; row++)
            for (int h = 0; h < 2; h++)
                _mm512_storeu_ps(to + (first + row) * SIDE + h * LANES, rows[row][h]);
    }
}

TILED void start_products(void) {}

TILED void end_products(void) {}

#include "tile_units.h"

int afina_attend_avx512(const struct attention *a, int64_t units, int threads, int is_backward) {
    return share_units(a, units, threads, is_backward);
}

#endif
