/* Copyright 2026 The hf-audio-ssm authors.
   SPDX-License-Identifier: Apache-2.0

   What a core can do at best: fused multiply-adds from registers, and bytes from memory. Built by scan.py when it runs. */

#include <stdint.h>
#include <string.h>

#if defined(__AVX512F__)
#define LANES 16
#elif defined(__AVX__)
#define LANES 8
#else
#define LANES 4
#endif

typedef float Vec __attribute__((vector_size(4 * LANES)));

enum { CHAINS = 12 };

/* Runs `rounds` rounds of multiply-adds in chains that do not wait for each other; returns how many there were. */
int64_t multiply_add(int64_t rounds, float* sink) {
    Vec sums[CHAINS], factor = {0}, term = {0};
    factor += 0.999f;
    term += 0.001f;
    for (int i = 0; i < CHAINS; ++i) sums[i] = term * (float)i;
    for (int64_t round = 0; round < rounds; ++round) {
#pragma GCC unroll 12
        for (int i = 0; i < CHAINS; ++i) sums[i] = sums[i] * factor + term;
    }
    for (int i = 1; i < CHAINS; ++i) sums[0] += sums[i];
    memcpy(sink, &sums[0], sizeof(Vec));
    return rounds * CHAINS * LANES;
}

/* Sums `count` floats, a multiple of 8 * LANES from an aligned address. */
float read_all(const float* values, int64_t count) {
    Vec sums[8] = {{0}};
    for (int64_t i = 0; i < count; i += 8 * LANES) {
#pragma GCC unroll 8
        for (int k = 0; k < 8; ++k) sums[k] += *(const Vec*)(values + i + k * LANES);
    }
    for (int i = 1; i < 8; ++i) sums[0] += sums[i];
    return sums[0][0];
}
