/* Which of the units that multiply blocks of numbers this processor has, and attention by them. */

#include "tile_attention.h"

#if HAS_TILES

#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>

enum unit { NO_UNIT, AVX512_UNIT, AMX_UNIT };

/* Asks Linux for the tiles' state, which a process has only then. */
static int may_use_amx(void) {
    enum { ASK_PERMISSION = 0x1023, TILE_DATA = 18 }; /* ARCH_REQ_XCOMP_PERM and XFEATURE_XTILEDATA */
    return syscall(SYS_arch_prctl, ASK_PERMISSION, TILE_DATA) == 0;
}

/* 0 for none, 1 for AVX512-BF16, 2 for AMX-BF16, if the processor has it and the system lets this process use it. */
int afina_find_tile_unit(void) {
    unsigned a, b, c, d;
    if (!__builtin_cpu_supports("avx512bw") || !__builtin_cpu_supports("avx512vl") ||
        !__builtin_cpu_supports("avx512dq") || !__get_cpuid_count(7, 0, &a, &b, &c, &d))
        return NO_UNIT;
    const int has_amx = d >> 22 & d >> 24 & 1; /* AMX-BF16 and AMX-TILE */
    if (!__get_cpuid_count(7, 1, &a, &b, &c, &d) || !(a >> 5 & 1)) /* AVX512-BF16 */
        return NO_UNIT;
    return has_amx && may_use_amx() ? AMX_UNIT : AVX512_UNIT;
}

static int attend(const struct attention *a, int64_t units, int threads, int unit, int is_backward) {
    return (unit == AMX_UNIT ? afina_attend_amx : afina_attend_avx512)(a, units, threads, is_backward);
}

#else

int afina_find_tile_unit(void) { return 0; }

static int attend(const struct attention *a, int64_t units, int threads, int unit, int is_backward) {
    (void)a, (void)units, (void)threads, (void)unit, (void)is_backward;
    return 1;
}

#endif

/* Both take what `afina_find_tile_unit` gave, or less, and give whether they failed for want of memory. */
int afina_attend_tiles(const struct attention *a, int64_t units, int threads, int unit) {
    return attend(a, units, threads, unit, 0);
}

int afina_differentiate_tiles(const struct attention *a, int64_t units, int threads, int unit) {
    return attend(a, units, threads, unit, 1);
}
