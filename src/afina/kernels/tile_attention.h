/* What attention by blocks of numbers is told of them, and the kinds of it. */

#ifndef TILE_ATTENTION_H
#define TILE_ATTENTION_H

#include "attention.h"

/* Functions that are compiled for one kind of processor alone, and their parts. */
#if defined(__x86_64__) && defined(__linux__) && defined(__GNUC__) && !defined(__clang__) && !defined(ONE_TARGET) && \
    !defined(NO_TILES)
#define HAS_TILES (__GNUC__ >= 11)
#else
#define HAS_TILES 0
#endif
#define TILED static inline __attribute__((always_inline)) FOR_TILES

/* Rows and places of a block, numbers of a tile and of a block. */
enum { SIDE = 32, TILE = 512, BLOCK = 1024 };
/* Keys in blocks, as in tile_attention.py: as many products are added at most. */
enum { MOST_BLOCKS = 256 };

/* Each processes the units, a head of keys of a row each, and gives whether it failed for want of memory. */
int afina_attend_amx(const struct attention *a, int64_t units, int threads, int is_backward);
int afina_attend_avx512(const struct attention *a, int64_t units, int threads, int is_backward);

#endif
