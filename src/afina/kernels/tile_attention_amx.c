/* Attention by the tiles of AMX: a tile's product is 16 x 32 numbers times 32 x 16 numbers. */

#include "tile_attention.h"

#if HAS_TILES

#include <immintrin.h>

#define FOR_TILES __attribute__((target("amx-tile,amx-bf16,avx512f,avx512bw,avx512vl,avx512dq,avx512bf16")))

/* They lie in the tiles 0 to 3. */
struct sums {
    int none;
};

/* The compiler doesn't know that tiles are read from memory: whatever was to be written is written before. */
TILED void finish_writing(void) { __asm__ volatile("" ::: "memory"); }

/* Tiles 0 to 3 are the sums of a block, in its rows' order. */
TILED void clear_sums(struct sums *sums) {
    (void)sums;
    finish_writing();
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
}

TILED void load_sums(struct sums *sums, const float *from) {
    (void)sums;
    finish_writing();
    _tile_loadd(0, from, SIDE * sizeof(float));
    _tile_loadd(1, from + LANES, SIDE * sizeof(float));
    _tile_loadd(2, from + BLOCK / 2, SIDE * sizeof(float));
    _tile_loadd(3, from + BLOCK / 2 + LANES, SIDE * sizeof(float));
}

TILED void store_sums(struct sums *sums, float *to) {
    (void)sums;
    _tile_stored(0, to, SIDE * sizeof(float));
    _tile_stored(1, to + LANES, SIDE * sizeof(float));
    _tile_stored(2, to + BLOCK / 2, SIDE * sizeof(float));
    _tile_stored(3, to + BLOCK / 2 + LANES, SIDE * sizeof(float));
    finish_writing();
}

TILED void add_product(struct sums *sums, const uint16_t *left, const uint16_t *right) {
    (void)sums;
    _tile_loadd(6, right, SIDE * sizeof *right);
    _tile_loadd(4, left, SIDE * sizeof *left);
    _tile_loadd(7, right + TILE, SIDE * sizeof *right);
    _tile_loadd(5, left + TILE, SIDE * sizeof *left);
    _tile_dpbf16ps(0, 4, 6);
    _tile_dpbf16ps(1, 4, 7);
    _tile_dpbf16ps(2, 5, 6);
    _tile_dpbf16ps(3, 5, 7);
}

/* Eight tiles of sixteen rows of 64 bytes, in this thread until they are given back. */
TILED void start_products(void) {
    struct {
        uint8_t palette, start_row, reserved[14];
        uint16_t columns[16];
        uint8_t rows[16];
    } config = {.palette = 1};
    for (int tile = 0; tile < 8; tile++) {
        config.columns[tile] = 64;
        config.rows[tile] = 16;
    }
    finish_writing();
    _tile_loadconfig(&config);
}

TILED void end_products(void) { _tile_release(); }

#include "tile_units.h"

int afina_attend_amx(const struct attention *a, int64_t units, int threads, int is_backward) {
    return share_units(a, units, threads, is_backward);
}

#endif
